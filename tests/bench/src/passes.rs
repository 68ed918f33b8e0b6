//! Sealing, verifying and opening a made state, from memory into memory.

use std::{path::Path, time::Duration};

use kvcap::{
    Error, Expected, Limits, Policy, Result, SigningKey, Suite, Trust, TrustedKey, Untrusted,
    Verified, Workers, WrappingKey, binding::Rope,
};
use kvcap_models::{HashCache, ModelProfile, RuntimeOptions};
use kvcap_states::{
    Buffer, Capture, Encoding, Hints, Prompt, RuntimeKind, SealRequest, State, detect, open_state,
    parse, seal_state,
};

use kvcap_testkit::terms;

use super::timed;

/// The time that capsules of a bench are sealed at and judged at.
pub(super) const NOW: u64 = 1_800_000_000;

/// A made state, and room for its capsule and for its copy.
pub(super) struct Bench {
    pub(super) state: State,
    pub(super) plain: Vec<u8>,
    pub(super) capsule: Vec<u8>,
    pub(super) restored: Vec<u8>,
    pub(super) profile: ModelProfile,
    pub(super) signer: SigningKey,
    pub(super) wrap: WrappingKey,
    trust: Trust,
}

pub(super) fn capture(suite: Suite) -> Capture {
    kvcap_testkit::capture(suite, Prompt::DangerNone)
}

/// A sealed state: its length, and that of its body.
#[derive(Clone, Copy)]
pub(super) struct Sealed {
    pub(super) file_len: u64,
    pub(super) body_len: u64,
}

impl Bench {
    /// # Errors
    /// KVC-940 where the system gives no randomness.
    pub(super) fn new(len: u64) -> Result<Self> {
        // not zeros, which the system would give as pages that are not there yet
        let touched = |len| vec![1; usize::try_from(len).unwrap_or(usize::MAX)];
        let mut plain = touched(len);
        kvcap_testkit::state(len, &Buffer::new(&mut plain))?;
        Self::with(plain, RuntimeKind::MlxLm, kvcap_testkit::profile(), touched)
    }

    /// A saved state.
    ///
    /// # Errors
    /// 92x for the state, 93x for the model.
    pub(super) fn of(state: &Path, model: &Path) -> Result<Self> {
        let plain = std::fs::read(state).map_err(|error| Error::io(&error, state.display()))?;
        let options = RuntimeOptions::default();
        let profile = ModelProfile::read(model, &[], &options, &HashCache::user(), &|_, _| {})?;
        let kind = detect(&plain)?;
        let touched = |len| vec![1; usize::try_from(len).unwrap_or(usize::MAX)];
        Self::with(plain, kind, profile, touched)
    }

    fn with(
        plain: Vec<u8>,
        kind: RuntimeKind,
        profile: ModelProfile,
        touched: impl Fn(u64) -> Vec<u8>,
    ) -> Result<Self> {
        let len = u64::try_from(plain.len()).unwrap_or(u64::MAX);
        let state = parse(kind, &plain, Hints::Model(&profile.geometry))?;
        let signer = SigningKey::generate()?;
        Ok(Self {
            state,
            plain,
            // tables and header are far below a sixteenth
            capsule: touched(len + len / 16 + (1 << 20)),
            restored: touched(len),
            profile,
            trust: Trust::from(TrustedKey::new(signer.public(), "tests")),
            signer,
            wrap: WrappingKey::generate()?,
        })
    }

    /// How the state's keys are rotated.
    pub(super) fn ropes(&self) -> Vec<Rope> {
        self.profile.rope_in(self.state.runtime)
    }

    /// The state's length, to divide by.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub(super) fn bytes(&self) -> f64 {
        self.plain.len() as f64
    }

    pub(super) fn seal(
        &mut self,
        suite: Suite,
        encoding: Encoding,
        workers: Workers,
    ) -> Result<(Sealed, Duration)> {
        let ((_, report), time) = timed(|| {
            seal_state(
                Buffer::new(&mut self.capsule),
                SealRequest::new(
                    &self.state,
                    &self.plain,
                    &self.profile,
                    capture(suite),
                    terms(NOW),
                    &self.signer,
                )
                .to(&[&self.wrap])
                .encoding(encoding)
                .workers(workers),
                &mut |_| {},
            )
        })?;
        let sealed = Sealed {
            file_len: report.sealed.file_len,
            body_len: report.sealed.file_len - report.sealed.header_len,
        };
        Ok((sealed, time))
    }

    /// The header alone: what must pass before a byte of the body is looked at.
    pub(super) fn header(&self, sealed: Sealed) -> Result<(Verified, Duration)> {
        let policy = Policy::new(&self.trust, NOW, "tests", Expected::danger_any_model());
        let source = self.sealed(sealed);
        timed(|| Untrusted::read_at(source, &Limits::default())?.verify(&policy))
    }

    pub(super) fn sealed(&self, sealed: Sealed) -> &[u8] {
        let len = usize::try_from(sealed.file_len).unwrap_or(usize::MAX);
        self.capsule.get(..len).unwrap_or_default()
    }

    pub(super) fn verify(&self, sealed: Sealed, workers: Workers) -> Result<Duration> {
        let (verified, header) = self.header(sealed)?;
        let source = self.sealed(sealed);
        let (_, body) = timed(|| verified.check_body_at(source, workers, &mut |_| {}))?;
        Ok(header + body)
    }

    pub(super) fn open(&mut self, sealed: Sealed, workers: Workers) -> Result<Duration> {
        let (verified, header) = self.header(sealed)?;
        let mut restored = std::mem::take(&mut self.restored);
        let source = self.sealed(sealed);
        let (_, body) = timed(|| {
            let opened = verified.open(source, &self.wrap)?.release()?;
            let out = Buffer::new(&mut restored);
            open_state(&opened, &out, workers, &mut |_| {})
        })?;
        self.restored = restored;
        Ok(header + body)
    }
}
