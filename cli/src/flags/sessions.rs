//! Where sessions are, and whose.

use std::env;

use kvcap::Result;
use kvcap_session::{Names, Session, files::DeviceTier};
use kvcap_store::profile::state_folder;

use crate::ui::usage;

/// Whose sessions are meant.
#[derive(Debug, clap::Args)]
pub(crate) struct OwnerArgs {
    /// The subject whose sessions they are
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// The tenant whose sessions they are
    #[arg(long, alias = "org", value_name = "NAME")]
    tenant: Option<String>,
}

impl OwnerArgs {
    /// The names of one of their sessions.
    pub(crate) fn names(&self, session: &str) -> Names {
        names(self.tenant.as_deref(), self.subject.as_deref(), session)
    }

    /// Loads one of their sessions.
    ///
    /// # Errors
    /// KVC-955 where there is none.
    pub(crate) fn load(&self, session: &str) -> Result<Session> {
        Session::load(&tier()?, &self.names(session))
    }

    /// Whether a session is theirs.
    pub(crate) fn own(&self, names: &Names) -> bool {
        *names == self.names(&names.session)
    }
}

/// The names of a session.
pub(crate) fn names(tenant: Option<&str>, subject: Option<&str>, session: &str) -> Names {
    Names {
        tenant: tenant.map(str::to_owned),
        subject: subject.map(str::to_owned),
        session: session.to_owned(),
    }
}

/// The sessions of this user: `$XDG_STATE_HOME/kvcap/sessions`.
///
/// # Errors
/// KVC-944 where there is no home.
pub(crate) fn tier() -> Result<DeviceTier> {
    match state_folder(&|name| env::var_os(name)) {
        Some(folder) => Ok(DeviceTier::at(folder.join("sessions"))),
        None => usage(
            "there is no home to keep sessions in",
            "XDG_STATE_HOME, HOME",
        ),
    }
}
