use std::os::unix::fs::PermissionsExt;

use kvcap::SigningKey;

use super::*;

/// The program, with the mode that one must have, whatever the umask of the checkout.
fn wrong() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/service/helper/wrong");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn public() -> PublicKey {
    SigningKey::from_seed(&[7; 32]).public()
}

fn held(label: &str) -> Held {
    let file = format!(
        "helper: {}\nlabel: {label}\n{}\n",
        wrong().display(),
        public().to_text()
    );
    let helper = Helper::named_in(&file).unwrap().unwrap();
    Held::new(helper, public().id())
}

fn refusal(held: Held) -> String {
    let error = ExternalSigner::sign(&held, b"message").unwrap_err();
    assert_eq!(error.code(), Code::LocalHelper, "{error}");
    error.to_string()
}

#[test]
fn wrong_answers_are_refused() {
    for (label, why) in [
        ("ends-early", "another form"),
        ("says-nothing", "another form"),
        ("fails", "failed"),
        ("short", "another length"),
        ("upper", "not hexadecimal"),
        ("other-version", "another form"),
        ("other-field", "another form"),
        ("no-text", "no text"),
        ("too-much", "too long"),
        ("nothing-that-it-knows", "another form"),
    ] {
        let said = refusal(held(label));
        assert!(said.contains(why), "{label}: {said}");
    }
    let said = refusal(held("refuses"));
    assert!(said.contains("the token is not there\\u{1b}[2J"), "{said}");
}

/// HLP-F-4: who refuses has no prefix key, and who fails has not said so.
#[test]
fn a_prefix_key_is_given_refused_or_an_error() {
    for label in ["says-nothing", "fails", "other-version", "other-field"] {
        let error = ExternalUnwrapper::prefix_key(&held(label)).unwrap_err();
        assert_eq!(error.code(), Code::LocalHelper, "{label}");
    }
    let none = ExternalUnwrapper::prefix_key(&held("refuses")).unwrap();
    assert!(none.is_none());
}

#[test]
fn one_that_does_not_end_is_ended() {
    for label in ["hangs", "answers-and-hangs"] {
        let Held { helper, key, .. } = held(label);
        let helper = helper.waiting(Duration::from_millis(300));
        let said = refusal(Held::new(helper, key));
        assert!(said.contains("too long"), "{label}: {said}");
    }
}

/// HLP-A-3: the program's signature is verified before it is used.
#[test]
fn a_signature_that_does_not_verify_is_refused() {
    assert!(ExternalSigner::sign(&held("lies"), b"message").is_ok());
    let key = SigningKey::external(public(), Arc::new(held("lies")));
    let models = [7, 8].map(|byte| kvcap::binding::Digest([byte; 32]));
    let signed = kvcap::Equivalence::sign(models, "lab", 1, None, &key);
    assert_eq!(signed.unwrap_err().code(), Code::LocalHelper);
}

#[test]
fn what_names_no_program_well_is_refused() {
    let code = |text: &str| match Helper::named_in(text) {
        Ok(helper) => u16::from(helper.is_some()),
        Err(error) => error.code().number(),
    };
    let key = public().to_text();
    assert_eq!(code(&key), 0);
    assert_eq!(code(&format!("helper: /bin/true\n{key}\n")), 1);
    assert_eq!(code(&format!("# helper: /bin/true\n{key}\n")), 0);
    for wrong in [
        "helper: true".to_owned(),
        "helper: ../true".to_owned(),
        "helper: /bin/true\nhelper: /bin/true".to_owned(),
        "label: x".to_owned(),
        "helper: /bin/true\nlabel: a\nlabel: b".to_owned(),
        format!("helper: /bin/true\nlabel: {}", "x".repeat(1025)),
    ] {
        assert_eq!(code(&format!("{wrong}\n{key}\n")), 942, "{wrong}");
    }
}

/// HLP-F-3: who can change the program decides what is signed.
#[test]
fn a_program_that_others_can_change_is_not_run() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut held = held("lies");
    held.helper.program = folder.path().join("helper");
    let code = |held: &Held| ExternalSigner::sign(held, b"").unwrap_err().code().number();
    assert_eq!(code(&held), 940);
    fs::write(&held.helper.program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&held.helper.program, fs::Permissions::from_mode(0o770)).unwrap();
    assert_eq!(code(&held), 945);
    held.helper.program = folder.path().to_owned();
    assert_eq!(code(&held), 948);
}

#[test]
fn no_secret_is_in_arguments_or_environment() {
    let folder = tempfile::TempDir::new().unwrap();
    let seen = folder.path().join("seen");
    let said = refusal(held(&format!("writes-down {}", seen.display())));
    assert!(said.contains("another form"), "{said}");
    let seen = fs::read_to_string(seen).unwrap();
    let key = public().id();
    let request = format!(
        "kvcap-helper 1 sign\nkey {key}\nlabel writes-down {}\nmessage 6d657373616765\nend\n",
        folder.path().join("seen").display()
    );
    assert_eq!(seen, format!("arguments: 0\n{request}"));
}

/// Gives each of these once: an interruption is no end, and an error no answer.
struct Given(Vec<std::io::Result<&'static [u8]>>);

impl Read for Given {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if self.0.is_empty() {
            return Ok(0);
        }
        let bytes = self.0.remove(0)?;
        buf[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

#[test]
fn an_answer_is_read_through_interruptions_and_not_through_errors() {
    use std::io::{Error, ErrorKind};
    let interrupted = || Err(Error::from(ErrorKind::Interrupted));
    let whole = Given(vec![interrupted(), Ok(b"ab"), interrupted(), Ok(b"c")]);
    assert_eq!(**bounded(whole).unwrap(), *b"abc");
    let reset = Err(Error::from(ErrorKind::ConnectionReset));
    let broken = Given(vec![Ok(b"ab"), reset, Ok(b"c")]);
    let refused = bounded(broken).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionReset);
}
