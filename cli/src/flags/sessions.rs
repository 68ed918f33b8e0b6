//! Where sessions are, and whose.

use std::{env, ffi::OsStr};

use kvcap::Result;
use kvcap_session::{
    Names, Session,
    files::{CodecProfiles, DeviceTier},
};
use kvcap_store::profile::state_folder;

use crate::ui::usage;

/// The session that is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct SessionArgs {
    /// The session's id, or as much of it as no other one begins with
    #[arg(value_name = "SESSION", required_unless_present = "last")]
    name: Option<String>,
    /// The session that was last written to, in the place of SESSION
    #[arg(long)]
    last: bool,
}

impl SessionArgs {
    /// Returns the words that SESSION and what follows it are: with --last they stand one place earlier.
    ///
    /// # Errors
    /// KVC-944 for --last beside a SESSION.
    pub(crate) fn with<'a, T>(
        &'a self,
        next: Option<&'a T>,
    ) -> Result<(Option<&'a str>, Option<&'a OsStr>)>
    where
        T: AsRef<OsStr>,
    {
        let (name, next) = (self.name.as_deref(), next.map(AsRef::as_ref));
        match (self.last, next) {
            (false, _) => Ok((name, next)),
            (true, None) => Ok((None, name.map(OsStr::new))),
            (true, Some(_)) => both(),
        }
    }

    /// Returns the session's id, or its beginning, where it is said.
    #[cfg(feature = "sync")]
    pub(crate) fn id(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the session of a tenant and a subject, which is there.
    ///
    /// # Errors
    /// KVC-955 where it is not; 944 where several begin so.
    pub(crate) fn find(&self, tenant: Option<&str>, subject: Option<&str>) -> Result<Names> {
        match (self.name.as_deref(), self.last) {
            (Some(_), true) => both(),
            (name, _) => find(name, tenant, subject),
        }
    }
}

fn both<T>() -> Result<T> {
    usage("--last stands in the place of a session", "SESSION, --last")
}

/// Returns the session of this name, or which begins so, or else the one that was last written to.
///
/// # Errors
/// KVC-955 where there is none; 944 where several begin so.
pub(crate) fn find(
    name: Option<&str>,
    tenant: Option<&str>,
    subject: Option<&str>,
) -> Result<Names> {
    match name {
        Some(name) => tier()?.find(&names(tenant, subject, name)),
        None => tier()?.last(tenant, subject),
    }
}

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

    /// Loads one of their sessions, by its name or its beginning, or else the one that was last written to.
    ///
    /// # Errors
    /// KVC-955 where there is none; 944 where several begin so.
    pub(crate) fn load(&self, session: Option<&str>) -> Result<Session> {
        let names = find(session, self.tenant.as_deref(), self.subject.as_deref())?;
        Session::load(&tier()?, &names)
    }

    /// Loads the session of theirs that is meant.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn load_meant(&self, meant: &SessionArgs) -> Result<Session> {
        let names = meant.find(self.tenant.as_deref(), self.subject.as_deref())?;
        Session::load(&tier()?, &names)
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

/// The profiles of codecs that this user keeps.
///
/// # Errors
/// KVC-944 where there is no home.
pub(crate) fn codec_profiles() -> Result<CodecProfiles> {
    match CodecProfiles::of_user(&|name| env::var_os(name)) {
        Some(kept) => Ok(kept),
        None => usage(
            "there is no home to keep profiles in",
            "XDG_STATE_HOME, HOME",
        ),
    }
}

/// Has codecs find the profiles that this user keeps.
pub(crate) fn find_codec_profiles() {
    if let Some(kept) = CodecProfiles::of_user(&|name| env::var_os(name)) {
        kept.look_here();
    }
}
