//! Codecs with a profile of the model (codecs-v1 §12.7), from sealing to opening.

use kvcap_testkit::profile::{Entry, made};

use super::support::{Folder, SEAL, TRUST, fixture};

/// A profile of the fixture's model that knows each of its banks.
pub(crate) fn whole(model: [u8; 32]) -> Vec<u8> {
    let entries: Vec<Entry> = (0..6)
        .flat_map(|layer| [(0, 1), (1, 2)].map(|(role, by)| Entry::new(layer, role, by, 2, 64)))
        .collect();
    let rates = |rate: u16| vec![rate; entries.len()];
    // KL in 1e-9 nat: a thousandth of a nat at 4 bits, a ten-thousandth at 8
    let points = [(1_000_000, rates(256)), (100_000, rates(512))];
    made(model, &entries, &points)
}

#[test]
fn a_capsule_names_its_profile_and_opens_with_it_alone() {
    let folder = Folder::new();
    folder.take("hf_f16.safetensors", "state");
    let model = kvcap_testkit::model(&fixture("model")).unwrap().model.id.0;
    folder.write("own.kvtc", &whole(model));
    let other = whole([9; 32]);
    folder.write("other.kvtc", &other);
    let seal = format!("seal state -f {SEAL} --tokens prompt.json");
    let open = format!(
        "open a.kvcap -f -o back {TRUST} --wrap-key reader.key --model model --tokens prompt.json"
    );

    let len = |encoding: &str| {
        folder.ok(&format!("{seal} {encoding}"));
        folder.read("a.kvcap").len()
    };
    let without = len("--encoding tc:4");
    folder.ok(&open);
    let four = len("--encoding tc:4 --codec-profile own.kvtc");
    assert!(four.abs_diff(without) < 2048, "{four} {without}");
    // what the profile promises decides the rate
    assert_eq!(len("--encoding auto:0.001 --codec-profile own.kvtc"), four);
    assert!(len("--encoding auto:0.0001 --codec-profile own.kvtc") > four * 3 / 2);
    assert_eq!(len("--encoding small --codec-profile own.kvtc"), four);

    // without the profile it is verified, and not opened
    folder.ok(&format!("verify a.kvcap {TRUST} --model model"));
    folder.refused(&open, 908, 1);
    folder.ok(&format!("{open} --codec-profile own.kvtc"));
    let first = folder.read("back");
    assert_eq!(first.len(), folder.read("state").len());
    // beside the model it is found, whatever else lies there
    std::fs::write(folder.path("model/another.kvtc"), &other).unwrap();
    std::fs::write(folder.path("model/own.kvtc"), whole(model)).unwrap();
    folder.ok(&open);
    assert!(folder.read("back") == first);
    assert_eq!(len("--encoding tc:4"), four);

    // another model's encodes nothing
    folder.refused(
        &format!("{seal} --encoding tc:4 --codec-profile other.kvtc"),
        909,
        3,
    );
    let mut cut = whole(model);
    cut.pop();
    folder.write("cut.kvtc", &cut);
    folder.refused(&format!("{open} --codec-profile cut.kvtc"), 909, 3);
}

#[test]
fn a_kept_profile_is_found_and_stays_while_a_capsule_names_it() {
    let folder = Folder::new();
    folder.take("hf_f16.safetensors", "state");
    let model = kvcap_testkit::model(&fixture("model")).unwrap().model.id.0;
    folder.write("own.kvtc", &whole(model));
    folder.write("other.kvtc", &whole([9; 32]));
    let added = folder.json("codec-profile add own.kvtc other.kvtc");
    let digest = |at: usize| added["profiles"][at]["digest"].as_str().unwrap().to_owned();
    let (own, other) = (digest(0), digest(1));
    assert_eq!(added["profiles"][0]["promises"][1]["bits"], 8.0);
    for name in ["own.kvtc", "other.kvtc"] {
        std::fs::remove_file(folder.path(name)).unwrap();
    }
    // again, from where it is: nothing changes
    let kept = folder.home().join("state/kvcap/codec-profiles");
    let path = |digest: &str| kept.join(format!("{digest}.kvtc"));
    folder.ok(&format!("codec-profile add {}", path(&own).display()));
    let listed = folder.json("codec-profile list");
    assert_eq!(listed["profiles"].as_array().unwrap().len(), 2);

    // found by its model to seal, and by its digest to open
    folder.ok("init --yes --issuer me --model model");
    folder.ok("events append fix hello --kind user");
    folder.ok("checkpoint fix state --tokens prompt.json --encoding tc:4");
    folder.ok("resume fix -o resumed");
    folder.ok("seal state -o a.kvcap --tokens prompt.json --encoding tc:4");
    let told = folder.json("inspect a.kvcap");
    assert_eq!(told["unverified"]["codec_profile"], *own);

    let gone = |flags: &str| {
        let told = folder.json(&format!("gc --yes --codec-profiles {flags}"));
        let gone = told["codec_profiles"].as_array().unwrap();
        gone.iter()
            .map(|digest| digest.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    // what was added lately stays
    assert!(gone("").is_empty());
    let week = std::time::Duration::from_secs(7 * 86_400);
    for digest in [&own, &other] {
        let file = std::fs::File::options().write(true).open(path(digest));
        let then = std::time::SystemTime::now() - week;
        file.unwrap().set_modified(then).unwrap();
    }
    assert_eq!(gone("--dry-run"), [&*other]);
    assert_eq!(gone(""), [&*other]);
    assert!(path(&own).exists() && !path(&other).exists());
    folder.ok("resume fix -f -o resumed");

    // a capsule that nobody can read may name any of them
    std::fs::create_dir(folder.path("away")).unwrap();
    let capsule = folder.read("a.kvcap");
    folder.write("away/a.kvcap", &capsule);
    folder.write("cut.kvcap", &capsule[..64]);
    std::fs::remove_dir_all(folder.home().join("state/kvcap/sessions")).unwrap();
    assert_ne!(folder.run("gc --yes --codec-profiles --capsules .").exit, 0);
    assert!(gone("--capsules away").is_empty());
    assert_eq!(gone(""), [&*own]);
    folder.refused("open a.kvcap -o back --tokens prompt.json", 908, 1);
}

/// Two profiles of one model in a folder: which one is meant is to be said.
#[test]
fn one_of_several_profiles_is_named() {
    let folder = Folder::new();
    folder.take("hf_f16.safetensors", "state");
    let model = kvcap_testkit::model(&fixture("model")).unwrap().model.id.0;
    let own = whole(model);
    let coarse = made(model, &[Entry::new(0, 0, 1, 2, 64)], &[]);
    folder.write("model/own.kvtc", &own);
    // the same twice is one
    folder.write("model/same.kvtc", &own);
    let seal = format!("seal state -f {SEAL} --tokens prompt.json --encoding tc:4");
    folder.ok(&seal);
    folder.write("model/coarse.kvtc", &coarse);
    folder.refused(&seal, 944, 2);
    folder.ok(&format!("{seal} --codec-profile model/own.kvtc"));
}

/// A promise needs who makes it.
#[test]
fn a_promise_without_a_profile_is_refused() {
    let folder = Folder::new();
    folder.take("hf_f16.safetensors", "state");
    let seal = format!("seal state -f {SEAL} --tokens prompt.json");
    folder.refused(&format!("{seal} --encoding auto:0.001"), 944, 2);
    folder.refused(&format!("{seal} --encoding auto:none"), 944, 2);
}
