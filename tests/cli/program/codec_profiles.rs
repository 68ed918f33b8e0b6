//! Codecs with a profile of the model (codecs-v1 §12.7), from sealing to opening.

use kvcap_testkit::profile::{Entry, made};

use super::support::{Folder, SEAL, TRUST, fixture};

/// A profile of the fixture's model that knows each of its banks.
fn whole(model: [u8; 32]) -> Vec<u8> {
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

/// A promise needs who makes it.
#[test]
fn a_promise_without_a_profile_is_refused() {
    let folder = Folder::new();
    folder.take("hf_f16.safetensors", "state");
    let seal = format!("seal state -f {SEAL} --tokens prompt.json");
    folder.refused(&format!("{seal} --encoding auto:0.001"), 944, 2);
    folder.refused(&format!("{seal} --encoding auto:none"), 944, 2);
}
