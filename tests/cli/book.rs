//! The book's sessions are what the program says today, and so is the reference of its commands.
//!
//! Each block ```` ```console ```` of a page is run by bash, all of a page in one shell and one new folder that
//! looks like a clone, and what is printed is compared, less ids and times. A line `…` stands for any lines.
//! `./do pages` writes what is printed into the pages.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it does not expect fails"
)]

#[path = "book/page.rs"]
mod page;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use page::{Session, masked, sessions, with_files, written};
use tempfile::TempDir;

/// Between two commands' output: the exit status of the first follows.
const END: &str = "\u{1e}";

fn root() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap()
}

fn rewrites() -> bool {
    std::env::var("KVCAP_PAGES").is_ok_and(|value| value == "write")
}

/// What each command of a page prints, and its exit status.
fn run(sessions: &[Session]) -> Vec<(String, i32)> {
    let folder = TempDir::new().unwrap();
    for name in ["cli", "tests", "docs", "testvectors"] {
        std::os::unix::fs::symlink(root().join(name), folder.path().join(name)).unwrap();
    }
    let home = TempDir::new().unwrap();
    let mut script = "exec 2>&1 </dev/null\n".to_owned();
    for session in sessions {
        script += &format!("{}\nprintf '{END}%d\\n{END}' $?\n", session.command);
    }
    let program = Path::new(env!("CARGO_BIN_EXE_kvcap")).parent().unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut bash = Command::new("bash");
    let output = kvcap_testkit::isolated(&mut bash, home.path())
        .args(["-c", &script])
        .current_dir(folder.path())
        .env("PATH", format!("{}:{path}", program.display()))
        .env("LC_ALL", "C.UTF-8")
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let config = home.path().join("config").display().to_string();
    let output = String::from_utf8(output.stdout).unwrap();
    let output = output.replace(&config, "/home/you/.config");
    let mut parts = output.split(END);
    let mut ran = Vec::new();
    while let (Some(text), Some(status)) = (parts.next(), parts.next()) {
        ran.push((text.to_owned(), status.trim().parse().unwrap()));
    }
    ran
}

/// The codes of refusals.
fn codes(text: &str) -> Vec<&str> {
    let errors = text.split("error[").skip(1);
    errors.filter_map(|rest| rest.split(']').next()).collect()
}

/// The page's text as the program writes it today.
fn today(path: &Path) -> String {
    let page = fs::read_to_string(path).unwrap();
    let sessions = sessions(&page);
    let ran = run(&sessions);
    assert_eq!(
        ran.len(),
        sessions.len(),
        "{}: the shell ended early",
        path.display()
    );
    for (session, (text, status)) in sessions.iter().zip(&ran) {
        // a page says by itself what is refused, so that writing it does not turn one into the other
        let refused = codes(text);
        assert!(
            codes(&session.said) == refused && refused.is_empty() == (*status == 0),
            "{}: {}\nexit status {status}\n{text}\nthe page says\n{}",
            path.display(),
            session.command,
            session.said
        );
    }
    written(&page, &sessions, &ran)
}

/// Writes the page, or holds it against what it should be.
fn compare(path: &Path, wanted: &str) {
    let page = fs::read_to_string(path).unwrap_or_default();
    if masked(&page) == masked(wanted) {
        return;
    }
    if rewrites() {
        fs::write(path, wanted).unwrap();
        return;
    }
    let (now, before) = (masked(wanted), masked(&page));
    let differing = now
        .lines()
        .zip(before.lines())
        .find(|(now, before)| now != before);
    panic!(
        "{} does not say what the program prints, first at (program, page):\n{differing:#?}\n\
         ./do pages writes it",
        path.display()
    );
}

#[test]
fn sessions_are_what_the_program_prints() {
    let mut pages = vec![root().join("README.md"), root().join("docs/tutorial.md")];
    for folder in ["docs/howto", "docs/explanation"] {
        let folder = fs::read_dir(root().join(folder)).unwrap();
        pages.extend(folder.map(|entry| entry.unwrap().path()));
    }
    let mut count = 0;
    for path in pages {
        if sessions(&fs::read_to_string(&path).unwrap()).is_empty() {
            continue;
        }
        count += 1;
        compare(&path, &today(&path));
    }
    assert!(count >= 1, "{count} pages with sessions were found");
}

/// A page that shows a file beside it shows it as it is.
#[test]
fn shown_files_are_as_they_are() {
    let mut count = 0;
    for entry in fs::read_dir(root().join("docs/howto")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|kind| kind != "md") {
            continue;
        }
        let page = fs::read_to_string(&path).unwrap();
        let (wanted, shown) = with_files(&page, |name| {
            fs::read_to_string(path.with_file_name(name)).unwrap()
        });
        count += shown;
        compare(&path, &wanted);
    }
    assert!(count >= 2, "{count} files are shown");
}

/// What `--help` prints of a command and of those below it.
fn help(command: &[&str], page: &mut String) {
    let mut kvcap = Command::new(env!("CARGO_BIN_EXE_kvcap"));
    let output = kvcap_testkit::isolated(&mut kvcap, Path::new(env!("CARGO_TARGET_TMPDIR")))
        .args(command)
        .arg("--help")
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let name = ["kvcap"]
        .iter()
        .chain(command)
        .copied()
        .collect::<Vec<_>>()
        .join(" ");
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    *page += &format!(
        "\n## `{name}`\n\n```text\n{}\n```\n",
        lines.join("\n").trim_end()
    );
    let below = lines
        .iter()
        .skip_while(|line| **line != "Commands:")
        .skip(1);
    for line in below.take_while(|line| line.starts_with("  ")) {
        // a description that wraps goes on further to the right
        if let Some(verb) = line
            .strip_prefix("  ")
            .filter(|rest| !rest.starts_with(' '))
        {
            let verb = verb.split_whitespace().next().unwrap();
            help(&[command, &[verb]].concat(), page);
        }
    }
}

#[test]
#[cfg_attr(
    not(feature = "server"),
    ignore = "the page is of a program with the server"
)]
fn the_reference_of_commands_is_fresh() {
    let mut page =
        "# Commands\n\nWhat `--help` prints of each, of a program with `--features server`. Written by \
                    `./do pages`.\n"
            .to_owned();
    help(&[], &mut page);
    assert!(
        page.contains("## `kvcap registry revoke`"),
        "commands below commands"
    );
    compare(&root().join("docs/reference/cli.md"), &page);
}
