//! The sessions of a page: commands, what they print, and where.

use std::ops::Range;

/// One command of a page.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) command: String,
    /// What the page says that it prints.
    pub(crate) said: String,
    /// The lines of the page that say what it prints.
    lines: Range<usize>,
}

/// The commands of a page's blocks ```` ```console ````, in order. A command begins with `$ `, and goes
/// on where its line ends with a backslash.
pub(crate) fn sessions(page: &str) -> Vec<Session> {
    let mut found: Vec<Session> = Vec::new();
    let (mut inside, mut continued) = (false, false);
    for (number, line) in page.lines().enumerate() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if inside && continued {
            let last = found.last_mut().unwrap();
            last.command += &format!("\n{line}");
            last.lines = number + 1..number + 1;
            continued = line.ends_with('\\');
        } else if inside && let Some(command) = line.strip_prefix("$ ") {
            continued = command.ends_with('\\');
            found.push(Session {
                command: command.to_owned(),
                said: String::new(),
                lines: number + 1..number + 1,
            });
        } else if inside && let Some(last) = found.last_mut() {
            last.lines.end = number + 1;
            last.said += &format!("{line}\n");
        }
    }
    found
}

/// The page with what was printed in place of what it says; lines that `…` stands for are left out.
pub(crate) fn written(page: &str, sessions: &[Session], ran: &[(String, i32)]) -> String {
    let lines: Vec<&str> = page.lines().collect();
    let (mut text, mut at) = (Vec::new(), 0);
    for (session, (printed, _)) in sessions.iter().zip(ran) {
        text.extend_from_slice(&lines[at..session.lines.start]);
        let said = &lines[session.lines.clone()];
        let printed: Vec<&str> = printed.lines().map(str::trim_end).collect();
        text.extend(shortened(said, &printed));
        at = session.lines.end;
    }
    text.extend_from_slice(&lines[at..]);
    text.join("\n") + "\n"
}

/// What was printed, with `…` where the page has it. Before it and after it as many lines are kept as the
/// page has there.
fn shortened<'a>(said: &[&str], printed: &[&'a str]) -> Vec<&'a str> {
    let Some(gap) = said.iter().position(|line| *line == "…") else {
        return printed.to_vec();
    };
    let after = said.len() - gap - 1;
    if printed.len() < gap + after {
        return printed.to_vec();
    }
    let mut kept = printed[..gap].to_vec();
    kept.push("…");
    kept.extend_from_slice(&printed[printed.len() - after..]);
    kept
}

/// A page without what differs from run to run: ids, times of the clock, and what something took.
pub(crate) fn masked(page: &str) -> String {
    let lines = page.lines().map(|line| {
        let line = match line.split_once("took  ") {
            Some(("", _)) => "took",
            _ => line,
        };
        let mut masked = String::new();
        let mut word = String::new();
        for c in line.chars().chain(['\n']) {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | ':') {
                word.push(c);
                continue;
            }
            masked += &mask(&word);
            word.clear();
            masked.push(c);
        }
        // (in 23 h 59 min)
        match masked.split_once("(in ") {
            Some((before, rest)) => match rest.split_once(')') {
                Some((_, after)) => format!("{before}(in …){after}"),
                None => masked,
            },
            None => masked,
        }
    });
    lines.collect()
}

fn mask(word: &str) -> String {
    let colons = word.len() - word.trim_end_matches(':').len();
    let (word, colons) = word.split_at(word.len() - colons);
    let id = word.len() >= 16 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let of_root = word.strip_prefix("kvcap-roots-1");
    let of_root = of_root.is_some_and(|id| id.len() == 72);
    let of_key = word.strip_prefix("key:").is_some_and(|id| id.len() == 32);
    let day = word.len() >= 10
        && word.starts_with("20")
        && word.as_bytes()[4] == b'-'
        && word.as_bytes()[7] == b'-';
    let second = word.len() == 10 && word.bytes().all(|b| b.is_ascii_digit());
    let word = match word {
        _ if id || of_key || of_root => "ID",
        _ if day || second => "TIME",
        word => word,
    };
    format!("{word}{colons}")
}

/// The page with the files that it shows: a block after `<!-- NAME -->` holds the file of this name. Gives their number.
pub(crate) fn with_files(page: &str, file: impl Fn(&str) -> String) -> (String, usize) {
    let (mut shown, mut count) = (String::new(), 0);
    let mut lines = page.split_inclusive('\n');
    while let Some(line) = lines.next() {
        shown += line;
        let name = line.trim_end().strip_prefix("<!-- ");
        let Some(name) = name.and_then(|rest| rest.strip_suffix(" -->")) else {
            continue;
        };
        shown += lines.next().unwrap();
        shown += file(name).trim_end();
        shown += "\n```\n";
        lines.find(|line| line.trim_end() == "```").unwrap();
        count += 1;
    }
    (shown, count)
}

#[test]
fn what_differs_from_run_to_run_is_masked_and_nothing_else() {
    let first = "key  bb6c6e9c2a22b29ce121b2f1190f7b1c: revoked\nuntil 2026-11-22T01:42:25Z (in 1 d), 58,540 bytes\ntook     8.8ms";
    let second = "key  00006e9c2a22b29ce121b2f1190f7b1c: revoked\nuntil 2027-01-02T01:42:25Z (in 23 h), 58,540 bytes\ntook     1.2s";
    assert_eq!(masked(first), masked(second));
    assert_ne!(masked(first), masked(&first.replace("58,540", "58,541")));
    assert_ne!(masked("verdict accepted"), masked("verdict refused"));
}

#[test]
fn a_session_has_commands_and_what_they_print() {
    let page = "text\n```console\n$ one \\\n    more\na\nb\nc\n$ two\n```\n```sh\n$ not run\n```\n";
    let found = sessions(page);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].command, "one \\\n    more");
    let ran = [("x\ny\n".to_owned(), 0), (String::new(), 0)];
    let text = written(page, &found, &ran);
    assert!(text.contains("    more\nx\ny\n$ two\n```\n"), "{text}");
    assert_eq!(
        shortened(&["a", "…", "c"], &["1", "2", "3", "4"]),
        ["1", "…", "4"]
    );
}
