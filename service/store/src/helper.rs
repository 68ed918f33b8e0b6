//! Keys that a helper program holds: what is asked of it, and what is taken for an answer (helper-v1).

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use kvcap::{
    Code, Error, ExternalSigner, ExternalUnwrapper, KeyId, PublicKey, RecipientKind,
    RecipientPublicKey, Result, RootKey, RootPublic, SigningKey, WrappedContent, WrappingKey,
};
use zeroize::Zeroizing;

use crate::private;

const HELPER: &str = "helper: ";
const LABEL: &str = "label: ";
const HEAD: &str = "kvcap-helper 1 ";

/// Longest label, in bytes.
const LONGEST_LABEL: usize = 1024;
/// Longest answer, in bytes.
const LONGEST_ANSWER: usize = 4096;
/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at whether the program has ended, after its answer did.
const PAUSE: Duration = Duration::from_millis(2);

/// A helper program as a key's file names it, and the rest of that file: its public key.
#[derive(Clone, Debug)]
pub(crate) struct Helper {
    program: PathBuf,
    label: Option<String>,
    patience: Duration,
    /// The file's other lines.
    public: String,
}

/// One key of a helper.
struct Held {
    helper: Helper,
    key: KeyId,
    /// The prefix key, once it was asked for.
    prefix_key: OnceLock<Option<Zeroizing<[u8; 32]>>>,
}

/// Answer of a helper that did as the protocol says.
enum Answer<const N: usize> {
    Given(Zeroizing<[u8; N]>),
    /// With its reason.
    Refused(Error),
}

impl<const N: usize> Answer<N> {
    fn given(self) -> Result<Zeroizing<[u8; N]>> {
        match self {
            Self::Given(bytes) => Ok(bytes),
            Self::Refused(error) => Err(error),
        }
    }

    fn given_or_none(self) -> Option<Zeroizing<[u8; N]>> {
        self.given().ok()
    }
}

impl Helper {
    /// Returns the helper that a key's file names; `None` where it names none.
    ///
    /// # Errors
    /// KVC-942 for a malformed file.
    pub(crate) fn named_in(text: &str) -> Result<Option<Self>> {
        let malformed = |what| Error::new(Code::LocalKeyMalformed, what).at("helper");
        let (mut programs, mut labels, mut public) = (Vec::new(), Vec::new(), String::new());
        for line in text.lines().map(str::trim_end) {
            match (line.strip_prefix(HELPER), line.strip_prefix(LABEL)) {
                (Some(program), _) => programs.push(program),
                (_, Some(label)) => labels.push(label),
                _ => {
                    public.push_str(line);
                    public.push('\n');
                }
            }
        }
        let program = match programs.as_slice() {
            [] if labels.is_empty() => return Ok(None),
            [program] if Path::new(program).is_absolute() => PathBuf::from(program),
            [_] => return Err(malformed("the path of the helper program is not absolute")),
            _ => {
                return Err(malformed(
                    "the key file names no helper program, or several",
                ));
            }
        };
        let label = match labels.as_slice() {
            [] => None,
            [label] if label.len() <= LONGEST_LABEL && !label.contains(char::is_control) => {
                Some((*label).to_owned())
            }
            _ => {
                return Err(malformed(
                    "the key file has several labels, or one that is too long",
                ));
            }
        };
        Ok(Some(Self {
            program,
            label,
            patience: PATIENCE,
            public,
        }))
    }

    /// Waits so long for an answer.
    #[cfg(test)]
    fn waiting(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Returns the signing key, and the issuer that its file names.
    ///
    /// # Errors
    /// KVC-942, 305 for the public key.
    pub(crate) fn signing(self) -> Result<SigningKey> {
        let public = PublicKey::from_text(&self.public)?;
        let named = kvcap::TrustedKey::from_text(&self.public)?.issuer;
        let key = SigningKey::external(public, self.holding(public.id()));
        match named == public.own_issuer() {
            true => Ok(key),
            false => key.speaking_for(&named),
        }
    }

    /// Returns the root key.
    ///
    /// # Errors
    /// As [`Self::signing`].
    pub(crate) fn root(self) -> Result<RootKey> {
        let root = RootPublic::from_text(&self.public)?;
        let Some(public) = root.key() else {
            let what = "a helper holds a key, and this names a statement about roots";
            return Err(Error::new(Code::LocalKeyMalformed, what));
        };
        Ok(RootKey::external(*public, self.holding(root.id())))
    }

    /// Returns the wrapping key.
    ///
    /// # Errors
    /// As [`Self::signing`].
    pub(crate) fn wrapping(self) -> Result<WrappingKey> {
        let public = RecipientPublicKey::from_text(&self.public)?;
        let id = public.id();
        Ok(WrappingKey::external(public, self.holding(id)))
    }

    fn holding(self, key: KeyId) -> Arc<Held> {
        Arc::new(Held::new(self, key))
    }

    fn refused(&self, what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        Error::new(Code::LocalHelper, what).at(self.program.display())
    }
}

impl ExternalSigner for Held {
    fn sign(&self, message: &[u8]) -> Result<[u8; 64]> {
        let fields = [("message", hex(message))];
        let answer: Answer<64> = self.ask("sign", &fields, "signature")?;
        Ok(*answer.given()?)
    }
}

impl ExternalUnwrapper for Held {
    fn unwrap(&self, of: &WrappedContent<'_>) -> Result<Zeroizing<[u8; 32]>> {
        let kem = match of.kind {
            RecipientKind::X25519 => "x25519",
            RecipientKind::XWing => "x-wing",
            RecipientKind::Symmetric => {
                return Err(self
                    .helper
                    .refused("a helper holds keys with a public half"));
            }
        };
        let fields = [
            ("kem", kem.to_owned()),
            ("info", hex(of.info)),
            ("aad", hex(of.aad)),
            ("enc", hex(of.enc)),
            ("wrapped", hex(of.wrapped)),
        ];
        self.ask("unwrap", &fields, "content")?.given()
    }

    fn prefix_key(&self) -> Result<Option<Zeroizing<[u8; 32]>>> {
        if let Some(known) = self.prefix_key.get() {
            return Ok(known.clone());
        }
        // one that refuses gives none, and its key is then as a public one; one that fails has not said so
        let answer = self.ask("prefix", &[], "prefix")?.given_or_none();
        Ok(self.prefix_key.get_or_init(|| answer).clone())
    }
}

impl Held {
    fn new(helper: Helper, key: KeyId) -> Self {
        Self {
            helper,
            key,
            prefix_key: OnceLock::new(),
        }
    }

    /// Asks one thing of a run of the program, and takes the bytes that it answers.
    fn ask<const N: usize>(
        &self,
        verb: &str,
        fields: &[(&str, String)],
        wanted: &str,
    ) -> Result<Answer<N>> {
        let mut request = format!("{HEAD}{verb}\nkey {}\n", self.key);
        if let Some(label) = &self.helper.label {
            request.push_str(&format!("label {label}\n"));
        }
        for (name, value) in fields {
            request.push_str(&format!("{name} {value}\n"));
        }
        request.push_str("end\n");
        let answer = self.run(request)?;
        self.read(&answer, wanted)
    }

    /// HLP-A-1, HLP-A-2.
    fn read<const N: usize>(&self, answer: &[u8], wanted: &str) -> Result<Answer<N>> {
        let refused = |what: &'static str| self.helper.refused(what);
        let text =
            std::str::from_utf8(answer).map_err(|_| refused("the helper's answer is no text"))?;
        if let Some(reason) = text.strip_prefix("kvcap-helper 1 refused ") {
            let reason = kvcap::text::printable(reason.trim_end());
            let error = self.helper.refused(format!("the helper refused: {reason}"));
            return Ok(Answer::Refused(error));
        }
        let digits = text
            .strip_prefix(HEAD)
            .and_then(|text| text.strip_prefix("ok\n"))
            .and_then(|text| text.strip_prefix(wanted))
            .and_then(|text| text.strip_prefix(' '))
            .and_then(|text| text.strip_suffix("\nend\n"))
            .ok_or_else(|| refused("the helper's answer has another form"))?;
        let mut bytes = Zeroizing::new([0; N]);
        if digits.len() != 2 * N {
            return Err(refused("the helper's answer has another length"));
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            *byte = pair
                .iter()
                .try_fold(0_u8, |value, digit| match digit {
                    b'0'..=b'9' => Some(value << 4 | (digit - b'0')),
                    b'a'..=b'f' => Some(value << 4 | (digit - b'a' + 10)),
                    _ => None,
                })
                .ok_or_else(|| refused("the helper's answer is not hexadecimal"))?;
        }
        Ok(Answer::Given(bytes))
    }

    /// Runs the program, and gives what it wrote: all of it, in time, with an end of its own.
    fn run(&self, request: String) -> Result<Zeroizing<Vec<u8>>> {
        let helper = &self.helper;
        let meta = fs::metadata(&helper.program)
            .map_err(|error| Error::source(&error, helper.program.display()))?;
        if !meta.is_file() {
            return Err(helper.refused("the helper is no file"));
        }
        private::check_unchanged(&meta, &helper.program)?;
        let deadline = Instant::now() + helper.patience;
        let mut child = Command::new(&helper.program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| helper.refused(format!("the helper cannot be run: {error}")))?;
        let answer = self.converse(&mut child, request, deadline);
        if answer.is_err() {
            // it may have ended already; whether it had, its refusal says
            let _ended = child.kill();
            let _status = child.wait();
        }
        answer
    }

    fn converse(
        &self,
        child: &mut Child,
        request: String,
        deadline: Instant,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let helper = &self.helper;
        let slow = || helper.refused("the helper took too long");
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(helper.refused("the helper has no input or output"));
        };
        // a program that does not read is left to the deadline
        thread::spawn(move || {
            // one that answers without reading is judged by its answer
            let _read = input.write_all(request.as_bytes());
        });
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(bounded(output)));
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = receiver
            .recv_timeout(left)
            .map_err(|_| slow())?
            .map_err(|error| helper.refused(format!("the helper cannot be read: {error}")))?;
        if answer.len() > LONGEST_ANSWER {
            return Err(helper.refused("the helper's answer is too long"));
        }
        loop {
            let ended = child.try_wait();
            match ended.map_err(|error| helper.refused(error.to_string()))? {
                Some(status) if status.success() => return Ok(answer),
                Some(status) => {
                    return Err(helper.refused(format!("the helper failed: {status}")));
                }
                None if Instant::now() >= deadline => return Err(slow()),
                None => thread::sleep(PAUSE),
            }
        }
    }
}

/// Reads to the end, or one byte more than an answer may have.
fn bounded(mut output: impl Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut answer = Zeroizing::new(vec![0; LONGEST_ANSWER + 1]);
    let mut len = 0;
    while let Some(rest) = answer.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match output.read(rest) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    answer.truncate(len);
    Ok(answer)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(all(test, unix))]
#[allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]
mod tests;
