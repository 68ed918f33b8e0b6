//! Compares the public API of each library with its list in `docs/api`, on the nightly toolchain.
//!
//! ```text
//! cargo run --manifest-path tests/api/Cargo.toml                 # fails where they differ, and says in what
//! cargo run --manifest-path tests/api/Cargo.toml -- --update     # writes the lists
//! ```
//!
//! Skips, loudly and with success, where there is no nightly toolchain or one whose JSON is of
//! another format: what the libraries are does not depend on it.

#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "a program's report")]

use std::{
    collections::BTreeSet,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const LIBRARIES: [&str; 8] = [
    "kvcap-codecs",
    "kvcap",
    "kvcap-models",
    "kvcap-states",
    "kvcap-engines",
    "kvcap-store",
    "kvcap-session",
    "kvcap-server",
];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let update = std::env::args().nth(1).is_some_and(|arg| arg == "--update");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let nightly = cargo(&root).arg("--version").output();
    if !nightly.is_ok_and(|ran| ran.status.success()) {
        return Ok(skip(
            "no nightly toolchain (rustup toolchain install nightly)",
        ));
    }
    let mut code = ExitCode::SUCCESS;
    for library in LIBRARIES {
        let Ok(api) = public_api::Builder::from_rustdoc_json(document(&root, library)?)
            .omit_blanket_impls(true)
            .omit_auto_trait_impls(true)
            .omit_auto_derived_impls(true)
            .build()
        else {
            return Ok(skip(
                "nightly's rustdoc writes a format that public-api does not read",
            ));
        };
        let file = root.join("docs/api").join(library).with_extension("txt");
        let found = api.to_string();
        if update {
            fs::write(file, found)?;
        } else if differs(library, &fs::read_to_string(file)?, &found) {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

fn skip(why: &str) -> ExitCode {
    eprintln!("kvcap-api: SKIPPED, NOTHING WAS COMPARED: {why}");
    ExitCode::SUCCESS
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root).arg("+nightly");
    command
}

/// Path of a library's rustdoc JSON, made anew.
fn document(root: &Path, library: &str) -> Result<PathBuf, Box<dyn Error>> {
    // a folder of its own keeps other builds warm
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let target = root.join(target).join("api");
    let status = cargo(root)
        .args(["rustdoc", "--quiet", "--lib", "--package", library])
        .arg("--target-dir")
        .arg(&target)
        .args(["--", "-Zunstable-options", "--output-format=json"])
        .arg("--cap-lints=allow")
        .status()?;
    if !status.success() {
        return Err(format!("rustdoc of {library} failed").into());
    }
    let name = library.replace('-', "_");
    Ok(target.join("doc").join(name).with_extension("json"))
}

/// Whether two lists differ; says in which lines.
fn differs(library: &str, stored: &str, found: &str) -> bool {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (stored, found) = (lines(stored), lines(found));
    for line in stored.difference(&found) {
        eprintln!("- {line}");
    }
    for line in found.difference(&stored) {
        eprintln!("+ {line}");
    }
    let differs = stored != found;
    if differs {
        eprintln!(
            "kvcap-api: the public API of {library} has changed: say so in its CHANGELOG, and run with --update"
        );
    }
    differs
}
