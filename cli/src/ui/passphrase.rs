//! Passphrases: from a file that the environment names, or asked for on a terminal without echo.

use std::{
    env,
    io::{self, IsTerminal},
    path::Path,
};

use kvcap::{Code, Error, Result, text::printable};
use kvcap_store::{Passphrases, passphrase_in};
use zeroize::Zeroizing;

/// Names a file whose first line is the passphrase.
const FILE: &str = "KVCAP_PASSPHRASE_FILE";

/// Passphrases of the keys of one run.
pub(crate) fn passphrases() -> Passphrases<'static> {
    Passphrases::asking(&|path: &Path| given(&format!("passphrase of {}: ", path.display())))
}

/// The passphrase of a key to be made; typed twice on a terminal.
///
/// # Errors
/// KVC-946.
pub(crate) fn new_passphrase() -> Result<Zeroizing<String>> {
    let first = given("new passphrase: ")?;
    if env::var_os(FILE).is_none() && *typed("the same again: ")? != *first {
        return Err(Error::new(
            Code::LocalPassphrase,
            "the two passphrases differ",
        ));
    }
    Ok(first)
}

fn given(prompt: &str) -> Result<Zeroizing<String>> {
    match env::var_os(FILE).filter(|path| !path.is_empty()) {
        Some(path) => passphrase_in(path.as_ref()),
        None => typed(prompt),
    }
}

fn typed(prompt: &str) -> Result<Zeroizing<String>> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let what = "a passphrase is needed, and there is no terminal to ask on";
        return Err(Error::new(Code::LocalPassphrase, what));
    }
    rpassword::prompt_password(printable(prompt))
        .map(Zeroizing::new)
        .map_err(|error| Error::io(&error, "terminal"))
}
