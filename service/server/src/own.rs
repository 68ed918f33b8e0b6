//! A gateway for one person on one machine, from the profile that he has.

use std::{
    fs::OpenOptions,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use kvcap::{Code, Error, Result};
use kvcap_codecs::Preset;
use kvcap_store::{
    output::{self, Readers},
    private,
    profile::{Setting, Settings as Profile},
    time::parse_duration,
};

use crate::{
    inspector::Inspector,
    limits::Limits,
    settings::Settings,
    setup::{EngineSetup, Keys, Sessions, Setup},
    tokens::{NewToken, Permission, Token, Tokens},
};

/// Time that a capsule is valid where the profile does not say, in seconds.
const TTL: u64 = 7 * 86_400;
/// Longest file of a token, in bytes.
const LONGEST: u64 = 256;

/// A gateway for one person, and the token by which he is known.
#[derive(Debug)]
pub struct Own {
    /// Its settings.
    pub settings: Settings,
    /// The token's file, which only its user may read.
    pub token: PathBuf,
}

impl Own {
    /// Returns the token's file in the folder of states.
    #[must_use]
    pub fn token_file(state_folder: &Path) -> PathBuf {
        state_folder.join("serve").join("token")
    }

    /// Makes the settings: keys, trust and names are the profile's, sessions are those of `kvcap sessions`, and what is
    /// not named is found.
    ///
    /// # Errors
    /// KVC-945 for a profile without keys; 94x for files.
    pub fn of(
        profile: &Profile,
        state_folder: &Path,
        listen: SocketAddr,
        engine: EngineSetup,
    ) -> Result<Self> {
        let texts = |setting| profile.value(setting).map_or(&[][..], |value| &value.texts);
        let one = |setting| texts(setting).first().cloned();
        let missing = |what: &'static str| Error::new(Code::LocalConfig, what).at("profile");
        let sign_key =
            one(Setting::SignKey).ok_or_else(|| missing("the profile has no sign-key"))?;
        let wrap_keys = [texts(Setting::WrapKey), texts(Setting::OpenKey)].concat();
        if wrap_keys.is_empty() {
            return Err(missing("the profile has no wrap-key"));
        }
        let verifier = profile.verifier();
        let encoding = one(Setting::Encoding);
        let encoding = encoding.as_deref().and_then(Preset::from_name);
        let ttl = one(Setting::Ttl).as_deref().and_then(parse_duration);
        let folder = state_folder.join("serve");
        private::folder(&folder)?;
        let path = Self::token_file(state_folder);
        let mut tokens = Tokens::default();
        let may = Permission::ALL.to_vec();
        let token = Token {
            tenant: verifier.tenant.clone(),
            subject: verifier.subject.clone(),
            may,
        };
        tokens.add(token_in(&path)?.digest(), token)?;
        let keys = Keys {
            sign_key: sign_key.into(),
            wrap_keys: wrap_keys.into_iter().map(PathBuf::from).collect(),
            recipients: texts(Setting::Recipient).to_vec(),
            issuer: one(Setting::Issuer),
            audience: verifier.audiences.first().cloned().unwrap_or_default(),
            ttl: ttl.unwrap_or(TTL),
            encoding: encoding.unwrap_or(Preset::Exact),
        };
        let sessions = Sessions {
            bases: Some(folder.join("bases")),
            find: true,
            ..Sessions::at(state_folder.join("sessions"))
        };
        Ok(Self {
            settings: Settings {
                listen,
                folder: folder.join("capsules"),
                verifier,
                audit: None,
                log: None,
                tls: None,
                tokens,
                limits: Limits::default(),
                inspector: Inspector::built_in(),
                gateway: Some(Setup {
                    engine,
                    keys,
                    sessions,
                }),
            },
            token: path,
        })
    }
}

/// The token in a file that its user alone may read.
pub(crate) fn read_token(path: &Path) -> Result<NewToken> {
    let file = private::open(path, OpenOptions::new().read(true));
    let file = file.map_err(|error| Error::io(&error, path.display()))?;
    private::check(&file, path)?;
    let text = kvcap_store::input::small(path, LONGEST)?;
    let text = String::from_utf8_lossy(&text);
    let malformed = || Error::new(Code::LocalConfig, "this is no token").at(path.display());
    NewToken::from_text(text.trim()).ok_or_else(malformed)
}

/// The token in a file, which is made where there is none.
fn token_in(path: &Path) -> Result<NewToken> {
    match private::open(path, OpenOptions::new().read(true)) {
        Ok(_) => read_token(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = NewToken::generate()?;
            let text = format!("{}\n", token.text());
            output::write(path, false, Readers::Owner, text.as_bytes())?;
            Ok(token)
        }
        Err(error) => Err(Error::io(&error, path.display())),
    }
}
