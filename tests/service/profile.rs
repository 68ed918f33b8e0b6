//! Profiles: what outranks what, what is refused, and that no profile trusts more than flags could.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it does not expect fails"
)]

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use kvcap::{Error, Result, SigningKey};
use kvcap_store::{
    Passphrases, key_file,
    profile::{NewProfile, Origin, Setting, Settings, check_variables},
};
use tempfile::TempDir;

/// A home with a configuration, and the variables of its user.
struct Home {
    folder: TempDir,
    variables: BTreeMap<String, OsString>,
}

impl Home {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let home = folder.path().as_os_str().to_owned();
        let variables = BTreeMap::from([("HOME".to_owned(), home)]);
        Self { folder, variables }
    }

    fn with(text: &str) -> Self {
        let home = Self::new();
        fs::create_dir_all(home.config()).unwrap();
        home.write("config.toml", text);
        home
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join(".config/kvcap")
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.config().join(name);
        fs::write(&path, text).unwrap();
        mode(&path, 0o600);
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    fn env(&self, name: &str) -> Option<OsString> {
        self.variables.get(name).cloned()
    }

    fn load(&self, choice: Option<&str>, flags: &[(Setting, &str)]) -> Result<Settings> {
        let flags = flags.iter().map(|(s, text)| (*s, vec![(*text).to_owned()]));
        Settings::load(&|name| self.env(name), choice, flags.collect())
    }

    fn refused(&self, choice: Option<&str>) -> Error {
        self.load(choice, &[]).unwrap_err()
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn public(issuer: &str) -> String {
    let key = SigningKey::generate()
        .unwrap()
        .speaking_for(issuer)
        .unwrap();
    format!("issuer: {issuer}\n{}\n", key.public().to_text())
}

/// A value that a setting of this key can have: in the file, and as a flag's text.
fn sample(setting: Setting, name: &str) -> (String, String) {
    let key = |text: &str| {
        let line = text.lines().last().unwrap().to_owned();
        (format!("{line:?}"), line)
    };
    match setting {
        Setting::Ttl => (format!("\"{}h\"", name.len()), format!("{}h", name.len())),
        Setting::ContextSize => (name.len().to_string(), name.len().to_string()),
        Setting::Trust | Setting::Recipient => key(&public(name)),
        Setting::RegistryRoot => (
            format!("\"kvcap-root-1{name}\""),
            format!("kvcap-root-1{name}"),
        ),
        _ => (format!("\"/{name}\""), format!("/{name}")),
    }
}

#[test]
fn flags_outrank_variables_and_these_the_profile() {
    for setting in Setting::ALL {
        let [(file, in_file), (_, in_variable), (_, in_flag)] =
            ["file", "variable", "flag"].map(|name| sample(setting, name));
        let runtime = match setting {
            Setting::RuntimeVersion => "runtime = \"hf\"\n",
            _ => "",
        };
        let key = setting.key();
        let home = Home::with(&format!("[profiles.default]\n{runtime}{key} = {file}\n"));
        let line = 2 + runtime.lines().count();
        let value = |home: &Home, flags: &[(Setting, &str)]| {
            let settings = home.load(None, flags).unwrap();
            let value = settings.value(setting).unwrap().clone();
            (value.texts.concat(), value.origin)
        };
        let file = home.config().join("config.toml");
        assert_eq!(
            value(&home, &[]),
            (in_file, Origin::Profile { file, line }),
            "{key}"
        );
        let home = home.set(&setting.variable(), &in_variable);
        let variable = Origin::Variable(setting.variable());
        assert_eq!(value(&home, &[]), (in_variable, variable), "{key}");
        let flags = [(setting, in_flag.as_str())];
        assert_eq!(
            value(&home, &flags),
            (in_flag.clone(), Origin::Flag),
            "{key}"
        );
    }
}

#[test]
fn a_profile_is_chosen_by_flag_variable_or_the_file() {
    let text = "profile = \"a\"\n[profiles.a]\nissuer = \"a\"\n[profiles.b]\nissuer = \"b\"\n[profiles.c]\n";
    let home = Home::with(text);
    let chosen = |home: &Home, choice| home.load(choice, &[]).unwrap().profile().map(str::to_owned);
    assert_eq!(chosen(&home, None).as_deref(), Some("a"));
    let home = home.set("KVCAP_PROFILE", "b");
    assert_eq!(chosen(&home, None).as_deref(), Some("b"));
    assert_eq!(chosen(&home, Some("c")).as_deref(), Some("c"));
    assert_eq!(chosen(&home, Some("none")), None);
    assert_eq!(home.refused(Some("d")).code().number(), 945);
    // nothing is asked for, and nothing is there
    assert_eq!(chosen(&Home::new(), None), None);
    assert_eq!(Home::new().refused(Some("a")).code().number(), 945);
}

#[test]
fn a_fault_of_the_file_is_told_with_its_line() {
    for (text, line) in [
        ("\n\n[profiles.default]\n\nisuer = \"a\"\n", 5),
        ("colour = 1\n", 1),
        ("[profiles.default]\nstore = \"x\"\n", 2),
        ("[profiles.default]\nserver = \"x\"\n", 2),
        ("[profiles.default]\nttl = \"24\"\n", 2),
        ("[profiles.default]\nttl = 24\n", 2),
        ("[profiles.default]\nissuer = [\"a\"]\n", 2),
        ("[profiles.default]\ncontext-size = 0\n", 2),
        ("[profiles.default]\ncontext-size = -1\n", 2),
        ("[profiles.default]\ncontext-size = \"many\"\n", 2),
        ("[profiles.default]\nmodel = \"\"\n", 2),
        ("[profiles.default]\ntrust = []\n", 2),
        ("[profiles.default]\ntrust = [{ issuer = \"a\" }]\n", 2),
        (
            "[profiles.default]\ntrust = [{ key = \"a\", until = \"b\" }]\n",
            2,
        ),
        ("[profiles.default]\nissuer = \"a\"\nissuer = \"b\"\n", 3),
        ("[profiles.default]\nissuer = \"a\n", 2),
        ("[profiles.\"../x\"]\n", 1),
        ("[profiles.none]\n", 1),
        ("\nprofile = 1\n", 2),
        // of a profile that is not asked for
        ("[profiles.default]\n[profiles.other]\nx = 1\n", 3),
        ("[profiles.default]\nruntime-version = \"1\"\n", 2),
    ] {
        let error = Home::with(text).refused(None);
        assert_eq!(error.code().number(), 945, "{text}: {error}");
        let place = error.place().unwrap();
        assert!(
            place.ends_with(&format!("config.toml:{line}")),
            "{text}: {place}"
        );
    }
    let bytes = Home::with("");
    fs::write(bytes.config().join("config.toml"), [0xFF]).unwrap();
    assert_eq!(bytes.refused(None).code().number(), 945);
}

#[test]
fn what_others_can_change_is_not_read() {
    for (name, open) in [
        ("config.toml", 0o620),
        ("config.toml", 0o602),
        ("", 0o770),
        ("", 0o707),
    ] {
        let home = Home::with("[profiles.default]\n");
        home.load(None, &[]).unwrap();
        mode(&home.config().join(name), open);
        assert_eq!(home.refused(None).code().number(), 945, "{name} {open:o}");
    }
    // links: of the file, of the folder
    let home = Home::with("[profiles.default]\n");
    let (file, away) = (
        home.config().join("config.toml"),
        home.folder.path().join("away"),
    );
    fs::rename(&file, &away).unwrap();
    symlink(&away, &file).unwrap();
    assert_eq!(home.refused(None).code().number(), 945);
    let home = Home::with("[profiles.default]\n");
    let away = home.folder.path().join("away");
    fs::rename(home.config(), &away).unwrap();
    symlink(&away, home.config()).unwrap();
    assert_eq!(home.refused(None).code().number(), 945);
}

#[test]
fn keys_that_decide_trust_are_where_nobody_changes_them() {
    let text = "[profiles.default]\ntrust = [{ issuer = \"lab\", key = \"lab.pub\" }]\n";
    let home = Home::with(text);
    let key = home.config().join("lab.pub");
    home.write("lab.pub", &public("lab"));
    let settings = home.load(None, &[]).unwrap();
    let [trusted] = settings.trust().keys.try_into().unwrap();
    assert_eq!(key_file::trusted(&trusted).unwrap().issuer, "lab");
    mode(&key, 0o660);
    assert_eq!(home.refused(None).code().number(), 945);
    // another issuer than the file names
    mode(&key, 0o600);
    home.write("lab.pub", &public("else"));
    assert_eq!(home.refused(None).code().number(), 312);
    // a link, and a link in the way
    let away = home.folder.path().join("away");
    fs::create_dir(&away).unwrap();
    fs::write(away.join("lab.pub"), public("lab")).unwrap();
    fs::remove_file(&key).unwrap();
    symlink(away.join("lab.pub"), &key).unwrap();
    assert_eq!(home.refused(None).code().number(), 945);
    symlink(&away, home.config().join("in")).unwrap();
    home.write("config.toml", &text.replace("lab.pub", "in/lab.pub"));
    assert_eq!(home.refused(None).code().number(), 945);
}

#[test]
fn a_nearer_source_of_trust_replaces_the_other() {
    let (first, second) = (public("first"), public("second"));
    let key = |text: &str| text.lines().last().unwrap().to_owned();
    let text = "[profiles.default]\nregistry = \"r\"\nregistry-root = \"kvcap-root-1x\"\n";
    let home = Home::with(text);
    // a flag's key stands alone, and no root stands beside it
    let trust = home
        .load(None, &[(Setting::Trust, &key(&first))])
        .unwrap()
        .trust();
    assert_eq!(trust.keys, [key(&first)]);
    assert!(trust.registries.is_empty() && trust.roots.is_empty());
    let home = home.set("KVCAP_TRUST", &key(&first));
    let trust = home.load(None, &[]).unwrap().trust();
    assert_eq!((trust.keys.len(), trust.roots.len()), (1, 0));
    let trust = home
        .load(None, &[(Setting::Trust, &key(&second))])
        .unwrap()
        .trust();
    assert_eq!(trust.keys, [key(&second)]);
    // beside each other in one profile they are refused as flags would be
    let both = Home::with(&format!("{text}trust = {:?}\n", key(&first)));
    let refused = both
        .load(None, &[])
        .unwrap()
        .verifier()
        .judge()
        .err()
        .unwrap();
    assert_eq!(refused.code().number(), 944);
    let bare = Home::with("[profiles.default]\nregistry = \"r\"\n");
    let refused = bare
        .load(None, &[])
        .unwrap()
        .verifier()
        .judge()
        .err()
        .unwrap();
    assert_eq!(refused.code().number(), 944);
}

#[test]
fn what_is_said_of_one_model_or_runtime_is_not_said_of_another() {
    let home = Home::with(
        "[profiles.default]\nmodel = \"/m\"\nadapter = \"/a\"\ncontext-size = 9\nruntime = \"hf\"\nruntime-version = \"1\"\n\
         sign-key = \"/k\"\nissuer = \"me\"\nwrap-key = \"/w\"\nopen-key = \"/o\"\n",
    );
    for (flag, gone) in [
        (Setting::Model, vec![Setting::Adapter, Setting::ContextSize]),
        (Setting::Runtime, vec![Setting::RuntimeVersion]),
        (Setting::SignKey, vec![Setting::Issuer]),
        (Setting::Recipient, vec![Setting::WrapKey, Setting::OpenKey]),
        (Setting::Adapter, vec![]),
    ] {
        let settings = home.load(None, &[(flag, "x")]).unwrap();
        for setting in Setting::ALL {
            let before = home.load(None, &[]).unwrap().value(setting).is_some();
            let expected = setting == flag || (before && !gone.contains(&setting));
            assert_eq!(
                settings.value(setting).is_some(),
                expected,
                "{flag:?} {setting:?}"
            );
        }
    }
}

#[test]
fn paths_begin_at_the_files_folder() {
    let home = Home::with(
        "[profiles.default]\nmodel = \"m.gguf\"\nadapter = [\"a=0.5\", \"/b\"]\nledger = \"~/l\"\n",
    );
    let settings = home.load(None, &[]).unwrap();
    let texts = |setting| settings.value(setting).unwrap().texts.clone();
    let here = |name: &str| home.config().join(name).display().to_string();
    assert_eq!(texts(Setting::Model), [here("m.gguf")]);
    assert_eq!(texts(Setting::Adapter), [here("a=0.5"), "/b".to_owned()]);
    assert_eq!(
        texts(Setting::Ledger),
        [home.folder.path().join("l").display().to_string()]
    );
}

#[test]
fn a_new_profile_is_its_users_alone_and_replaces_nothing() {
    let home = Home::new();
    let make = |name, passphrase| {
        let profile = NewProfile {
            name,
            issuer: "me \"and\" you",
            settings: BTreeMap::from([(Setting::ContextSize, "7".to_owned())]),
            key_folder: false,
            passphrase,
        };
        profile.make(&|name| home.env(name))
    };
    let made = make("work", None).unwrap();
    assert!(made.meant);
    for path in [
        &made.file,
        &made.sign_key,
        &made.public,
        &made.wrap_key,
        &home.config(),
    ] {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o077;
        assert_eq!(mode, 0, "{}", path.display());
    }
    let settings = home.load(None, &[]).unwrap();
    assert_eq!(settings.profile(), Some("work"));
    assert_eq!(
        settings.value(Setting::Issuer).unwrap().texts,
        ["me \"and\" you"]
    );
    settings.verifier().judge().unwrap();
    let before = fs::read(&made.file).unwrap();
    assert_eq!(make("work", None).unwrap_err().code().number(), 941);
    assert_eq!(make("../x", None).unwrap_err().code().number(), 945);
    assert_eq!(fs::read(&made.file).unwrap(), before);
    // a second one is added, and its keys are under a passphrase
    let second = make("other", Some("a long one")).unwrap();
    assert!(!second.meant && fs::read(&made.file).unwrap().starts_with(&before));
    let refused = key_file::signing(&second.sign_key, &Passphrases::none());
    assert_eq!(refused.unwrap_err().code().number(), 946);
    let asked = std::cell::Cell::new(0);
    let ask = |_: &Path| {
        asked.set(asked.get() + 1);
        Ok("a long one".to_owned().into())
    };
    let passphrases = Passphrases::asking(&ask);
    let key = key_file::signing(&second.sign_key, &passphrases).unwrap();
    assert_eq!(
        (key.public().id(), key.issuer().as_str()),
        (second.key, "me \"and\" you")
    );
    key_file::wrapping_key(&second.wrap_key, &passphrases).unwrap();
    assert_eq!(asked.get(), 1);
    let wrong = |_: &Path| Ok("another".to_owned().into());
    let refused = key_file::signing(&second.sign_key, &Passphrases::asking(&wrong));
    assert_eq!(refused.unwrap_err().code().number(), 946);
}

/// The reference page's table is the code's; `KVCAP_PAGES=write` writes it.
#[test]
fn the_reference_page_names_every_setting() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/config.md");
    let page = fs::read_to_string(&path).unwrap();
    let head = "| key | value | meaning | default | flag | variable |\n| --- | --- | --- | --- | --- | --- |\n";
    let mut table = head.to_owned();
    for setting in Setting::ALL {
        let flag = match setting {
            Setting::OpenKey => "`--wrap-key` of `open`, `rewrap`".to_owned(),
            _ => format!("`--{}`", setting.key()),
        };
        let (key, form, meaning) = (setting.key(), setting.form(), setting.meaning());
        let (fallback, variable) = (setting.fallback(), setting.variable());
        table +=
            &format!("| `{key}` | {form} | {meaning} | {fallback} | {flag} | `{variable}` |\n");
    }
    let start = page.find("| key |").unwrap();
    let len = page[start..].find("\n\n").unwrap() + 1;
    if std::env::var("KVCAP_PAGES").is_ok_and(|value| value == "write") {
        let written = format!("{}{table}{}", &page[..start], &page[start + len..]);
        fs::write(&path, written).unwrap();
        return;
    }
    assert_eq!(
        &page[start..start + len],
        table,
        "KVCAP_PAGES=write writes the table"
    );
}

#[test]
fn a_profile_to_be_made_is_shown_without_its_passphrase() {
    let profile = NewProfile {
        name: "work",
        issuer: "lab",
        settings: BTreeMap::new(),
        key_folder: false,
        passphrase: Some("open sesame"),
    };
    let shown = format!("{profile:?}");
    assert!(shown.contains("work") && !shown.contains("sesame"));
}

#[test]
fn a_misspelt_variable_is_refused_with_the_nearest_name() {
    let check = |name: &str| check_variables([OsString::from("HOME"), name.into()]);
    for (name, nearest) in [
        ("KVCAP_LEGDER", "KVCAP_LEDGER"),
        ("KVCAP_SIGNKEY", "KVCAP_SIGN_KEY"),
        ("KVCAP_RUNTIME_VERSOIN", "KVCAP_RUNTIME_VERSION"),
        ("KVCAP_NOCACHE", "KVCAP_NO_CACHE"),
        ("KVCAP_TLL", "KVCAP_TTL"),
    ] {
        let error = check(name).unwrap_err();
        assert_eq!(error.code().number(), 945, "{name}");
        assert_eq!(error.expected(), Some(nearest));
        assert_eq!(error.found(), Some(name));
    }
    for setting in Setting::ALL {
        check(&setting.variable()).unwrap();
    }
    for others in [
        "KVCAP_HOME",
        "KVCAP_BENCH",
        "KVCAP_PROFILE",
        "KVCAP",
        "KVCAP_XYZ",
        "MODEL",
    ] {
        check(others).unwrap();
    }
}
