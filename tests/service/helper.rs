//! Keys that a helper program holds, through the readers of keys that the program, the profile and the gateway share.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]
#![cfg(unix)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Mutex,
};

use kvcap::{
    Draft, Expected, Limits, Members, RecipientKind, RootKey, Sealer, SigningKey, Untrusted,
    Workers, WrappingKey,
};
use kvcap_store::{
    Passphrases, RegistryFile, SealingKeys, TrustSources, Verifier, WrapKeys, key_file, time,
};
use kvcap_testvectors::fixture;
use tempfile::TempDir;

const HELPER: &str = env!("CARGO_BIN_EXE_kvcap-helper-file");

/// The helper, whatever the umask that it was built with.
fn helper() -> &'static str {
    let mode = fs::metadata(HELPER).unwrap().permissions().mode();
    if mode & 0o022 != 0 {
        fs::set_permissions(HELPER, fs::Permissions::from_mode(0o755)).unwrap();
    }
    HELPER
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The secret in a file of the helper's, and a file that names the helper for it.
fn held(folder: &TempDir, name: &str, secret: &str, public: &str) -> PathBuf {
    let (kept, path) = (
        folder.path().join(format!("{name}.secret")),
        folder.path().join(name),
    );
    write(&kept, secret);
    write(
        &path,
        &format!(
            "helper: {}\nlabel: {}\n{public}\n",
            helper(),
            kept.display()
        ),
    );
    path
}

struct Keys {
    folder: TempDir,
    sealing: SealingKeys,
    signer: SigningKey,
}

fn keys(kind: RecipientKind) -> Keys {
    let folder = TempDir::new().unwrap();
    let signer = SigningKey::from_seed(&fixture::SIGN_SEED);
    let reader = WrappingKey::of(kind, fixture::WRAP_KEY);
    let sign_key = held(
        &folder,
        "sign.key",
        &signer.to_secret_text().unwrap(),
        &format!("issuer: lab\n{}", signer.public().to_text()),
    );
    let wrap = held(
        &folder,
        "wrap.key",
        &reader.to_secret_text().unwrap(),
        &reader.public().unwrap().to_text(),
    );
    let sealing = SealingKeys {
        sign_key,
        wrap_keys: vec![wrap],
        recipients: Vec::new(),
        issuer: None,
    };
    Keys {
        folder,
        sealing,
        signer,
    }
}

impl Keys {
    fn seal(&self) -> kvcap::Result<Vec<u8>> {
        let now = time::now();
        let none = Passphrases::none();
        let sealer = self.sealing.read(&none)?;
        let parties = sealer.terms("local", now, now + 3600);
        let parties = sealer.parties(parties, &none)?;
        let context = fixture::context();
        let plain = fixture::contents(&context);
        let draft = Draft::new(parties.terms.clone(), context);
        let out = Mutex::new(Vec::new());
        let writer = Sealer::new(out, draft, &parties.signer, &parties.recipients())?;
        for bytes in plain {
            writer.write(&bytes)?;
            writer.end_stream()?;
        }
        Ok(writer.finish()?.0.into_inner().unwrap())
    }

    fn open(&self, file: &[u8]) -> kvcap::Result<Vec<u8>> {
        let trusted = format!("issuer: lab\n{}", self.signer.public().to_text());
        let verifier = Verifier::new(TrustSources::keys(vec![trusted]));
        let mut judge = verifier.judge()?.expecting(Expected::danger_any_model());
        judge = judge.danger_without(&[kvcap::Unchecked::Model]);
        let untrusted = Untrusted::read_at(file, &Limits::default())?;
        let verdict = judge.verify(untrusted)?.with_source(file);
        let accepted = judge.conclude(verdict)?;
        let keys = WrapKeys::read(&self.sealing.wrap_keys, &Passphrases::none())?;
        let admitted = judge.open(accepted, keys, None, Workers::new(1))?;
        admitted.opened.tip().stream_bytes(0)
    }
}

#[test]
fn a_capsule_is_signed_and_opened_by_a_helper() {
    for kind in [RecipientKind::X25519, RecipientKind::XWing] {
        let keys = keys(kind);
        let file = keys.seal().unwrap();
        let opened = keys.open(&file).unwrap();
        assert_eq!(opened, fixture::contents(&fixture::context())[0]);
        // the secret was the helper's alone
        fs::remove_file(keys.folder.path().join("wrap.key.secret")).unwrap();
        assert_eq!(keys.open(&file).unwrap_err().code().number(), 948);
        fs::remove_file(keys.folder.path().join("sign.key.secret")).unwrap();
        assert_eq!(keys.seal().unwrap_err().code().number(), 948);
    }
}

#[test]
fn a_helper_that_holds_another_key_is_refused() {
    let keys = keys(RecipientKind::X25519);
    let file = keys.seal().unwrap();
    let other = WrappingKey::of(RecipientKind::X25519, [9; 32]);
    let secret = keys.folder.path().join("wrap.key.secret");
    write(&secret, &other.to_secret_text().unwrap());
    assert_eq!(keys.open(&file).unwrap_err().code().number(), 948);
}

/// HLP-A-4: a content key is compared with the capsule's commitment before anything is opened with it.
#[test]
fn a_content_key_that_is_not_the_one_committed_to_opens_nothing() {
    let keys = keys(RecipientKind::X25519);
    let file = keys.seal().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/service/helper/wrong");
    // whatever the umask of the checkout
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let reader = WrappingKey::of(RecipientKind::X25519, fixture::WRAP_KEY);
    write(
        &keys.sealing.wrap_keys[0],
        &format!(
            "helper: {}\nlabel: lies-of-content\n{}\n",
            path.display(),
            reader.public().unwrap().to_text()
        ),
    );
    assert_eq!(keys.open(&file).unwrap_err().code().number(), 804);
}

#[test]
fn the_file_that_names_a_helper_is_its_users_alone() {
    let keys = keys(RecipientKind::X25519);
    let path = &keys.sealing.sign_key;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(keys.seal().unwrap_err().code().number(), 943);
    let public = key_file::public(path.to_str().unwrap());
    assert_eq!(public.unwrap_err().code().number(), 942);
}

#[test]
fn keys_without_a_public_half_have_no_helper() {
    let keys = keys(RecipientKind::X25519);
    let read = || key_file::wrapping_key(&keys.sealing.wrap_keys[0], &Passphrases::none());
    // its prefix key is that of the secret, as long as the helper gives one
    let own = WrappingKey::of(RecipientKind::X25519, fixture::WRAP_KEY).prefix_key();
    let own = own.unwrap();
    let given = read().unwrap().prefix_key().unwrap();
    assert_eq!(given.map(|key| key.id()), own.map(|key| key.id()));
    fs::remove_file(keys.folder.path().join("wrap.key.secret")).unwrap();
    assert!(read().unwrap().prefix_key().unwrap().is_none());
    let secret = WrappingKey::from_bytes(fixture::WRAP_KEY)
        .to_secret_text()
        .unwrap();
    let text = format!("helper: {}\n{}\n", helper(), *secret);
    write(&keys.sealing.wrap_keys[0], &text);
    assert_eq!(read().unwrap_err().code().number(), 942);
}

#[test]
fn a_root_signs_registries_by_a_helper() {
    let folder = TempDir::new().unwrap();
    let root = RootKey::from_seed(&[7; 32]);
    let public = root.public().to_text();
    let path = held(
        &folder,
        "root.key",
        &root.to_secret_text().unwrap(),
        &public,
    );
    let by_helper = key_file::root(&path, &Passphrases::none()).unwrap();
    let registry = folder.path().join("keys.kvreg");
    let file = RegistryFile::at(&registry);
    let now = time::now();
    file.create(&by_helper, now, 3600).unwrap();
    file.change(&[], &by_helper, now, None).unwrap();
    let verified = file.verify(&[root.public()], time::now()).unwrap();
    assert_eq!(verified.listing().version, 2);
}
