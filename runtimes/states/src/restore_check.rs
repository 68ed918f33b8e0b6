//! Whether a restore had any effect (runtimes-v1 §6).

use kvcap::{Code, Error, Manifest, Result};

/// What a capsule claims, beside what the runtime was seen to do after the restore.
///
/// Runtimes have answered "ok, n tokens restored" and then evaluated the whole prompt again. Only the
/// tokens that they evaluate tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreCheck {
    /// Tokens whose state the capsule holds: the end of its positions.
    pub claimed: u64,
    /// Tokens of the prompt that was run after the restore, those that were restored among them.
    pub prompt: u64,
    /// Tokens that the runtime evaluated before it gave the first new one.
    pub evaluated: u64,
}

impl RestoreCheck {
    /// The receipt for a capsule whose prompt, of `prompt` tokens, cost `evaluated`.
    #[must_use]
    pub fn of(manifest: &Manifest, prompt: u64, evaluated: u64) -> Self {
        Self {
            claimed: manifest.context.positions.end,
            prompt,
            evaluated,
        }
    }

    /// Tokens of the prompt that the runtime did not evaluate.
    #[must_use]
    pub const fn reused(&self) -> u64 {
        self.prompt.saturating_sub(self.evaluated)
    }

    /// Tokens that need not be evaluated: those claimed, save the prompt's last one, which every
    /// runtime evaluates for the sake of what follows it.
    #[must_use]
    pub fn expected_reuse(&self) -> u64 {
        self.claimed.min(self.prompt.saturating_sub(1))
    }

    /// Refuses a restore that reported success and evaluated again what it had restored.
    ///
    /// # Errors
    /// KVC-926, with both counts; 944 for a prompt without tokens.
    pub fn check(&self) -> Result<()> {
        if self.prompt == 0 {
            return Err(Error::new(Code::LocalUsage, "the prompt has no tokens"));
        }
        match self.reused() < self.expected_reuse() {
            false => Ok(()),
            true => Err(Error::new(
                Code::StateRestoreIneffective,
                "the runtime evaluated again what was restored",
            )
            .sides(
                format_args!("{} tokens reused", self.expected_reuse()),
                self.reused(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(claimed: u64, prompt: u64, evaluated: u64) -> RestoreCheck {
        RestoreCheck {
            claimed,
            prompt,
            evaluated,
        }
    }

    #[test]
    fn what_was_restored_must_not_be_evaluated_again() {
        for (claimed, prompt, evaluated, reused) in [
            (1000, 1001, 1, 1000),
            (1000, 1500, 500, 1000),
            // the prompt ends with or before the state: its last token is evaluated all the same
            (1000, 1000, 1, 999),
            (1000, 600, 1, 599),
            (1000, 1, 1, 0),
            (0, 10, 10, 0),
        ] {
            let receipt = receipt(claimed, prompt, evaluated);
            assert_eq!(receipt.reused(), reused);
            receipt.check().unwrap();
        }
        for (claimed, prompt, evaluated) in [
            (1000, 1001, 1001),
            (1000, 1001, 2),
            (1000, 1000, 2),
            // a draft model's tokens, or a prompt evaluated twice
            (1000, 1001, 2002),
        ] {
            let error = receipt(claimed, prompt, evaluated).check().unwrap_err();
            assert_eq!(error.code(), Code::StateRestoreIneffective);
        }
        let error = receipt(1000, 1001, 600).check().unwrap_err();
        assert_eq!(error.expected(), Some("1000 tokens reused"));
        assert_eq!(error.found(), Some("401"));
        let error = receipt(1000, 0, 0).check().unwrap_err();
        assert_eq!(error.code(), Code::LocalUsage);
    }
}
