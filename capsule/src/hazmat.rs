//! Where randomness comes from, and what only tests and benches may call.
//!
//! A capsule's id, content key, salt and nonces are made inside. Test vectors need them chosen;
//! the `hazmat` feature opens that door, and a program that seals for real must not enable it: a
//! content key used twice gives the plaintexts away.

use zeroize::Zeroizing;

use crate::error::{Code, Error, Result};

/// A source of random bytes.
#[derive(Clone)]
pub struct Entropy(Source);

#[derive(Clone)]
enum Source {
    System,
    #[cfg(any(test, feature = "hazmat"))]
    Chosen(Box<blake3::OutputReader>),
}

impl Entropy {
    pub(crate) fn system() -> Self {
        Self(Source::System)
    }

    /// Bytes that follow from `seed`: for test vectors only.
    #[cfg(any(test, feature = "hazmat"))]
    #[must_use]
    pub fn danger_chosen(seed: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("kvcap v1 test entropy");
        hasher.update(seed);
        Self(Source::Chosen(Box::new(hasher.finalize_xof())))
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        match &mut self.0 {
            Source::System => getrandom::fill(bytes).map_err(|error| {
                Error::new(Code::LocalIo, error.to_string()).at("the system's random generator")
            }),
            #[cfg(any(test, feature = "hazmat"))]
            Source::Chosen(reader) => {
                reader.fill(bytes);
                Ok(())
            }
        }
    }

    pub(crate) fn secret(mut self) -> Result<Zeroizing<[u8; 32]>> {
        let mut bytes = Zeroizing::new([0; 32]);
        self.fill(&mut *bytes)?;
        Ok(bytes)
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy")
    }
}
