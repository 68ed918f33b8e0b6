//! A relay that keeps sessions, and who asks it.

use std::path::PathBuf;

use kvcap::Result;

use super::AuthoritiesArgs;

/// The relay that keeps capsules and versions of sessions.
#[derive(Debug, clap::Args)]
pub(crate) struct RelayArgs {
    /// A relay: HOST:PORT or a URL
    #[arg(long, value_name = "URL")]
    relay: Option<String>,
    /// The private file of a token that it knows
    #[arg(long, value_name = "FILE")]
    relay_token: Option<PathBuf>,
    /// Longest silence of the relay
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = super::duration)]
    relay_wait: u64,
    #[command(flatten)]
    authorities: AuthoritiesArgs,
}

impl RelayArgs {
    /// Returns whether one is named.
    #[cfg(not(feature = "sync"))]
    pub(crate) const fn is_named(&self) -> bool {
        self.relay.is_some()
    }

    /// Returns the relay, if one is named.
    ///
    /// # Errors
    /// KVC-944 for an address that is none; 94x for the token and the authorities.
    #[cfg(feature = "sync")]
    pub(crate) fn read(&self) -> Result<Option<kvcap_session::sync::Relay>> {
        match (&self.relay, &self.relay_token) {
            (None, _) => Ok(None),
            (Some(url), Some(token)) => {
                let authorities = self.authorities.file();
                let relay = kvcap_session::sync::Relay::at(url, token, authorities)?;
                let silence = std::time::Duration::from_secs(self.relay_wait);
                Ok(Some(relay.waiting(silence)))
            }
            (Some(_), None) => {
                crate::ui::usage("say by which token the relay knows you", "--relay-token")
            }
        }
    }
}

/// # Errors
/// KVC-944: this program was built without it.
#[cfg(not(feature = "sync"))]
pub(crate) fn without_relays<T>() -> Result<T> {
    let what = "this program was built without relays: cargo build -p kvcap-cli --features sync";
    Err(kvcap::Error::new(kvcap::Code::LocalUsage, what))
}
