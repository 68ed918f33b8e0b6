//! What is attached to an image: by Debian's registry, which keeps no list, and by one that has a list and lies (oci-v1 §5).

use serde_json::json;

use super::{
    super::support::{Folder, TRUST},
    Answers, Registry, lying, manifest, sha256, text, with_bases,
};

#[test]
fn capsules_are_attached_to_an_image_and_found_there() {
    let (folder, registry) = (with_bases(), Registry::start(false));
    let models = format!("{}/models/small", registry.address);
    let model = text(
        &folder.json(&format!("base push base.kvcap {models}:v1")),
        "digest",
    );
    let list = format!("base list {models}:v1");
    let told = folder.json(&list);
    assert_eq!(
        (&told["images"], &told["digest"]),
        (&json!([]), &json!(model))
    );
    let attach = |capsule: &str, to: &str| {
        let line = format!("base push {capsule}.kvcap {models}:{capsule} --subject {models}{to}");
        folder.json(&line)
    };
    let first = attach("base", ":v1");
    assert_eq!(first["attached_to"], json!(model));
    assert_ne!(
        text(&first, "digest"),
        model,
        "the manifest names its subject"
    );
    let second = attach("other", &format!("@{model}"));
    // again is the same, and stands once
    assert_eq!(attach("base", ":v1"), first);
    let of =
        |pushed: &serde_json::Value| json!({"digest": pushed["digest"], "bytes": pushed["bytes"]});
    assert_eq!(
        folder.json(&list)["images"],
        json!([of(&first), of(&second)])
    );
    for (pushed, name) in [(&first, "base"), (&second, "other")] {
        let image = format!("{models}@{}", text(pushed, "digest"));
        let pull = format!("base pull {image} -o got.kvcap -f {TRUST} --model model");
        assert_eq!(folder.json(&pull)["attached_to"], json!(model));
        assert_eq!(
            folder.read("got.kvcap"),
            folder.read(&format!("{name}.kvcap"))
        );
    }
    // what is not there, or lies elsewhere, has nothing attached
    let push = "base push base.kvcap";
    folder.refused(&format!("{push} {models}:x --subject {models}:v9"), 940, 4);
    let elsewhere = format!("{}/bases/agent:x", registry.address);
    folder.refused(&format!("{push} {elsewhere} --subject {models}:v1"), 944, 2);
    folder.refused(&format!("base list {models}:v9"), 940, 4);
    folder.refused(
        &format!("base list {models}:v1 --server 127.0.0.1:1"),
        944,
        2,
    );
}

/// The manifest with a subject.
fn attached(manifest: &[u8], subject: &[u8]) -> Vec<u8> {
    let own = String::from_utf8(manifest.to_vec()).unwrap();
    let (digest, size) = (sha256(subject), subject.len());
    let member =
        format!(r#""subject":{{"mediaType":"{IMAGE}","digest":"{digest}","size":{size}}}"#);
    format!("{},{member}}}", own.strip_suffix('}').unwrap()).into_bytes()
}

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

/// An index of manifests, each with what it is called.
fn index(entries: &[(&str, &str)]) -> Vec<u8> {
    let entry = |(digest, kind): &(&str, &str)| json!({"mediaType": IMAGE, "digest": digest, "size": 7, "artifactType": kind});
    let all: Vec<_> = entries.iter().map(entry).collect();
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": all});
    index.to_string().into_bytes()
}

#[test]
fn a_list_of_what_is_attached_is_a_place_to_look_and_no_more() {
    const OURS: &str = "application/vnd.kvcap";
    let folder = Folder::empty();
    let model = manifest(&sha256(b"model"), 5);
    let capsules = [1, 2].map(|size| attached(&manifest(&sha256(b"capsule"), size), &model));
    let stranger = attached(&manifest(&sha256(b"capsule"), 3), b"another");
    let [one, two] = [&capsules[0], &capsules[1]].map(|capsule| sha256(capsule));
    let (lost, strange) = (sha256(b"lost"), sha256(&stranger));
    let query = format!("{}?artifactType=application%2Fvnd.kvcap", sha256(&model));
    let address = lying(|address| {
        let mut answers = Answers::new();
        let mut put = |path: String, link: Option<String>, body: &[u8]| {
            let mut headers = vec![("content-type", IMAGE.to_owned())];
            headers.extend(link.map(|link| ("link", format!("<{link}>; rel=\"next\""))));
            answers.insert(format!("GET /v2/{path}"), (200, headers, body.to_vec()));
        };
        let mut repository = |name: &str, link: Option<String>, list: &[u8]| {
            put(format!("{name}/manifests/v1"), None, &model);
            put(format!("{name}/manifests/{one}"), None, &capsules[0]);
            put(format!("{name}/manifests/{two}"), None, &capsules[1]);
            put(format!("{name}/manifests/{strange}"), None, &stranger);
            let wrong = sha256(b"wrong");
            put(format!("{name}/manifests/{wrong}"), None, &capsules[0]);
            put(format!("{name}/referrers/{query}"), link, list);
        };
        let first = index(&[(&one, OURS), (&strange, OURS), (&lost, OURS), (&one, OURS)]);
        let more = |name: &str| Some(format!("/v2/{name}/more"));
        repository("api", more("api"), &first);
        // it has not looked for capsules alone
        repository("all", None, &index(&[(&one, "text/plain"), (&two, OURS)]));
        repository("empty", None, &index(&[]));
        repository("image", None, &model);
        repository("text", None, b"no");
        repository("long", None, &vec![b' '; (4 << 20) + 1]);
        let digests: Vec<String> = (0..1025_u32).map(|n| sha256(&n.to_be_bytes())).collect();
        let many: Vec<_> = digests.iter().map(|digest| (&**digest, OURS)).collect();
        repository("many", None, &index(&many));
        repository("swapped", None, &index(&[(&sha256(b"wrong"), OURS)]));
        repository(
            "far",
            Some(format!("http://127.0.0.2:{}/x", address.port())),
            &first,
        );
        repository(
            "circle",
            Some(format!("/v2/circle/referrers/{query}")),
            &first,
        );
        put("api/more".to_owned(), None, &index(&[(&two, OURS)]));
        // without a list of its own there is the tag, which is another's where it is no list
        let tag = sha256(&model).replace(':', "-");
        for (name, list) in [("tag", index(&[(&two, OURS)])), ("no-list", model.clone())] {
            put(format!("{name}/manifests/v1"), None, &model);
            put(format!("{name}/manifests/{two}"), None, &capsules[1]);
            put(format!("{name}/manifests/{tag}"), None, &list);
        }
        let page = (
            200,
            vec![("content-type", "text/html".to_owned())],
            b"<p>".to_vec(),
        );
        answers.insert("GET /v2/page/manifests/v1".to_owned(), page);
        answers
    });
    let line = |name: &str| format!("base list {address}/{name}:v1");
    let (one, two) = (
        json!({"digest": one, "bytes": 1}),
        json!({"digest": two, "bytes": 2}),
    );
    for (name, images) in [
        ("api", json!([one, two])),
        ("all", json!([two])),
        ("tag", json!([two])),
        ("empty", json!([])),
    ] {
        assert_eq!(folder.json(&line(name))["images"], images, "{name}");
    }
    for (name, code, exit) in [
        ("image", 940, 4),
        ("text", 940, 4),
        ("long", 940, 4),
        ("no-list", 940, 4),
        ("swapped", 940, 4),
        ("far", 940, 4),
        ("page", 940, 4),
        ("many", 910, 3),
        ("circle", 910, 3),
    ] {
        folder.refused(&line(name), code, exit);
    }
}

#[test]
fn who_attaches_believes_no_list_that_it_has_not_read_back() {
    let folder = with_bases();
    let (good, model) = (folder.read("base.kvcap"), manifest(&sha256(b"model"), 5));
    let empty = sha256(b"{}");
    let subject = sha256(&model);
    let address = lying(|_| {
        let mut answers = Answers::new();
        let mut repository = |name: &str, told: Option<&str>, list: Option<&[u8]>, status| {
            let path = |method: &str, what: &str| format!("{method} /v2/{name}/{what}");
            let kind = vec![("content-type", IMAGE.to_owned())];
            let told = told.map(|digest| ("oci-subject", digest.to_owned()));
            let mut answer = |at, status, headers: Vec<_>, body: &[u8]| {
                answers.insert(at, (status, headers, body.to_vec()));
            };
            answer(path("GET", "manifests/model"), 200, kind, &model);
            for blob in [&sha256(&good), &empty] {
                answer(path("HEAD", &format!("blobs/{blob}")), 200, vec![], b"");
            }
            let told = told.into_iter().collect();
            answer(path("PUT", "manifests/v1"), 201, told, b"");
            let tag = format!("manifests/{}", subject.replace(':', "-"));
            if let Some(list) = list {
                answer(path("GET", &tag), 200, vec![], list);
            }
            answer(path("PUT", &tag), status, vec![], b"");
        };
        // it keeps the list, and then there is no tag
        repository("api", Some(&subject), None, 500);
        repository("another", Some(&empty), None, 500);
        repository("silent", None, None, 500);
        // somebody's list is always the newer one
        repository("raced", None, Some(&index(&[])), 201);
        repository("newer", None, Some(&index(&[])), 412);
        repository("no-list", None, Some(&model), 201);
        answers
    });
    let line = |name: &str| {
        format!("base push base.kvcap {address}/{name}:v1 --subject {address}/{name}:model")
    };
    folder.ok(&line("api"));
    for name in ["another", "silent", "raced", "newer", "no-list"] {
        folder.refused(&line(name), 940, 4);
    }
}
