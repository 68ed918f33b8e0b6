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
};

use crate::{
    inspector::Inspector,
    limits::Limits,
    settings::Settings,
    setup::{EngineSetup, Keys, Sessions, Setup, TTL},
    tokens::{NewToken, Permission, Token, Tokens},
};

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
    /// KVC-944 and 945 for a profile without keys, or with settings that are malformed; 94x for files.
    pub fn of(
        profile: &Profile,
        state_folder: &Path,
        listen: SocketAddr,
        engine: EngineSetup,
    ) -> Result<Self> {
        let sealing = profile.sealing_keys()?;
        let open_keys = profile.keys_to_open();
        if open_keys.is_empty() {
            let what = "the profile has no wrap-key: what is sealed could not be opened";
            return Err(Error::new(Code::LocalConfig, what).at("profile"));
        }
        let verifier = profile.verifier();
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
            sealing,
            open_keys,
            audience: verifier.audiences.first().cloned().unwrap_or_default(),
            ttl: profile.ttl()?.unwrap_or(TTL),
            encoding: encoding(profile)?,
        };
        let sessions = Sessions {
            bases: Some(folder.join("bases")),
            find: true,
            ..Sessions::at(state_folder.join("sessions"))
        };
        Ok(Self {
            settings: Settings {
                listen,
                place: crate::Place::Folder(folder.join("capsules")),
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

/// The encoding that the profile says.
fn encoding(profile: &Profile) -> Result<Preset> {
    let said = profile.value(Setting::Encoding);
    let Some(name) = said.and_then(|value| value.texts.first()) else {
        return Ok(Preset::Exact);
    };
    let unknown = || Error::new(Code::LocalConfig, "there is no such encoding");
    Preset::from_name(name).ok_or_else(|| unknown().at(Setting::Encoding.key()))
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
