//! Whether a restore had any effect (runtimes-v1 §6).

use kvcap::{Code, Error, Manifest, Result};

/// Claims of a capsule beside what the runtime was seen to do after the restore.
///
/// Runtimes have answered "ok, n tokens restored" and then evaluated the whole prompt again. Only the
/// tokens that they evaluate tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreCheck {
    /// Tokens that the capsule's prompt and the prompt that was run have in common from the first on, no more
    /// than the capsule holds.
    pub common: u64,
    /// Tokens of the prompt that was run after the restore, those that were restored among them.
    pub prompt: u64,
    /// Tokens that the runtime evaluated before it gave the first new one.
    pub evaluated: u64,
}

impl RestoreCheck {
    /// Returns what is known of the restore of a capsule: a prompt of `prompt` tokens was run, of which `common` are the
    /// capsule's (all that it holds where `None`), and `evaluated` were evaluated.
    #[must_use]
    pub fn of(manifest: &Manifest, prompt: u64, common: Option<u64>, evaluated: u64) -> Self {
        let most = manifest.context.positions.end.min(prompt);
        Self {
            common: common.map_or(most, |common| common.min(most)),
            prompt,
            evaluated,
        }
    }

    /// Tokens of the prompt that the runtime did not evaluate.
    #[must_use]
    pub const fn reused(&self) -> u64 {
        self.prompt.saturating_sub(self.evaluated)
    }

    /// Tokens that need not be evaluated: those in common, save one, the prompt's or the state's last, which
    /// runtimes evaluate for the sake of what follows it (RUN-X-2).
    #[must_use]
    pub const fn expected_reuse(&self) -> u64 {
        self.common.saturating_sub(1)
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

    fn receipt(common: u64, prompt: u64, evaluated: u64) -> RestoreCheck {
        RestoreCheck {
            common,
            prompt,
            evaluated,
        }
    }

    #[test]
    fn what_was_restored_must_not_be_evaluated_again() {
        for (common, prompt, evaluated, reused) in [
            (1000, 1001, 1, 1000),
            (1000, 1500, 500, 1000),
            // the last token of the state is evaluated again
            (1000, 1500, 501, 999),
            (16, 30, 15, 15),
            // the prompt ends with or before the state, or goes another way
            (1000, 1000, 1, 999),
            (600, 600, 1, 599),
            (600, 1500, 900, 600),
            (1, 1, 1, 0),
            (0, 10, 10, 0),
        ] {
            let receipt = receipt(common, prompt, evaluated);
            assert_eq!(receipt.reused(), reused);
            receipt.check().unwrap();
        }
        for (common, prompt, evaluated) in [
            (1000, 1001, 1001),
            (1000, 1001, 3),
            (1000, 1000, 2),
            (600, 1500, 1500),
            // a draft model's tokens, or a prompt evaluated twice
            (1000, 1001, 2002),
        ] {
            let error = receipt(common, prompt, evaluated).check().unwrap_err();
            assert_eq!(error.code(), Code::StateRestoreIneffective);
        }
        let error = receipt(1000, 1001, 600).check().unwrap_err();
        assert_eq!(error.expected(), Some("999 tokens reused"));
        assert_eq!(error.found(), Some("401"));
        let error = receipt(1000, 0, 0).check().unwrap_err();
        assert_eq!(error.code(), Code::LocalUsage);
    }
}
