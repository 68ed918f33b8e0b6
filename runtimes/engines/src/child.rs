//! A process that does not outlive this one.

use std::{
    collections::VecDeque,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use kvcap::{Code, Error, Result};
use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::watch,
    time::timeout,
};

/// Runs a program until it ends, or until nothing holds the other end of the standard input: a process that is killed
/// closes it too. A flag of the kernel's (`PR_SET_PDEATHSIG`) goes by the thread that started it, which may end before.
const WATCHED: &str = r#"
exec 3<&0 </dev/null
"$@" 3<&- 2>&1 &
engine=$!
{ cat <&3; kill -9 $engine; } >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait $engine
status=$?
kill $watch 2>/dev/null
exit $status
"#;

/// Lines of a log that are held to explain an end.
const LINES: usize = 20;

/// Time for a process that ended to be heard to its end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Longest line that is held.
const LONGEST: usize = 400;

/// Variables by which an engine takes options that are not in its arguments, and secrets that are none of its business.
const NOT_PASSED: [&str; 4] = ["LLAMA_", "KVCAP_", "HF_", "HUGGING"];

/// The last lines that a process has said.
pub(crate) struct Said {
    lines: Arc<Mutex<VecDeque<String>>>,
    /// Closed when it has said everything.
    speaking: watch::Receiver<()>,
}

impl Said {
    /// Takes all that a process says, whether or not it can be written.
    pub(crate) fn listen(
        output: impl AsyncRead + Unpin + Send + 'static,
        log: Option<File>,
    ) -> Self {
        let lines = Arc::default();
        let (speaks, speaking) = watch::channel(());
        let writing = write_down(output, log, Arc::clone(&lines));
        tokio::spawn(async move {
            writing.await;
            drop(speaks);
        });
        Self { lines, speaking }
    }

    /// Returns an error that ends with what was said last.
    pub(crate) async fn explain(&self, what: &'static str) -> Error {
        let mut speaking = self.speaking.clone();
        let _ = timeout(LAST_WORDS, speaking.changed()).await;
        let lines = self.lines.lock().map(|lines| lines.clone());
        let lines = lines.unwrap_or_default();
        let error = |line: &&String| line.to_lowercase().contains("error");
        let told = lines.iter().rev().find(error).or(lines.back());
        let error = Error::new(Code::LocalIo, what);
        match told {
            Some(line) => error.at(line),
            None => error,
        }
    }
}

/// A process, watched. It is killed when this is dropped.
pub(crate) struct Watched {
    child: Child,
    _watch: Option<ChildStdin>,
}

impl Watched {
    /// Starts a program whose output goes to `log`, and whose last lines are held.
    ///
    /// # Errors
    /// KVC-940 where the log cannot be written or no process be made.
    pub(crate) async fn start(
        program: &Path,
        arguments: &[OsString],
        log: Option<&PathBuf>,
    ) -> Result<(Self, Said)> {
        let log = match log {
            Some(path) => Some(opened(path).await?),
            None => None,
        };
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", WATCHED, "kvcap-engine"])
            .arg(program)
            .args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::null()).kill_on_drop(true);
        clean(&mut command);
        let child = command.spawn();
        let mut child = child.map_err(|error| Error::io(&error, program.display()))?;
        let output = child.stdout.take();
        let said = output.map(|output| Said::listen(output, log));
        let said = said.ok_or_else(|| Error::new(Code::LocalIo, "the engine has no pipes"))?;
        let watch = child.stdin.take();
        Ok((
            Self {
                child,
                _watch: watch,
            },
            said,
        ))
    }

    /// Waits for its end.
    pub(crate) async fn end(&mut self) {
        let _ = self.child.wait().await;
    }
}

/// Checks that a program is there: a path, or a name to be found on the path.
///
/// # Errors
/// KVC-944.
pub(crate) fn check_program(program: &Path) -> Result<()> {
    let is_there = match program.components().count() {
        1 => std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
        }),
        _ => program.is_file(),
    };
    match is_there {
        true => Ok(()),
        false => {
            let what = "the engine's program is not there: install it, or name it by its path";
            Err(Error::new(Code::LocalUsage, what).at(program.display()))
        }
    }
}

/// Takes from a command what is not for engines.
pub(crate) fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if NOT_PASSED.iter().any(|start| text.starts_with(start)) {
            command.env_remove(&name);
        }
    }
}

/// A log that its user alone may read.
pub(crate) async fn opened(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    let file = options.open(path).await;
    file.map_err(|error| Error::sink(&error, path.display()))
}

async fn write_down(
    output: impl AsyncRead + Unpin,
    mut log: Option<File>,
    lines: Arc<Mutex<VecDeque<String>>>,
) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while let Ok(1..) = output.read_until(b'\n', &mut line).await {
        if let Some(file) = &mut log
            && (file.write_all(&line).await.is_err() || file.flush().await.is_err())
        {
            log = None;
        }
        if let Ok(mut lines) = lines.lock() {
            if lines.len() == LINES {
                lines.pop_front();
            }
            let text = String::from_utf8_lossy(&line);
            lines.push_back(text.trim().chars().take(LONGEST).collect());
        }
        line.clear();
    }
}
