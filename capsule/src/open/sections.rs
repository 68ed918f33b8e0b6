//! Sections of an opened capsule, and its prompt (capsule-v1 §6.5, §7.3).

use crate::{
    binding::{PrefixValue, prefix},
    digest::Digest,
    error::Result,
    io::ReadAt,
    manifest::SectionKind,
    open::opened::Opened,
};

impl<S: ReadAt> Opened<S> {
    /// The sealed value of its prompt, where it is named.
    ///
    /// # Errors
    /// As [`StreamReader::read`].
    pub fn prompt(&self) -> Result<Option<PrefixValue>> {
        let tokens = self.manifest().context.prefix.tokens().unwrap_or(0);
        let value = self.prefix_value()?;
        Ok(value.map(|value| PrefixValue { value, tokens }))
    }

    /// The bytes of a section, or `None` where the capsule has none of this kind.
    ///
    /// # Errors
    /// As [`StreamReader::read`].
    pub fn section(&self, kind: &SectionKind) -> Result<Option<Vec<u8>>> {
        match self.manifest().context.section(kind) {
            None => Ok(None),
            Some((index, _)) => self.stream_bytes(index).map(Some),
        }
    }

    /// All encoded bytes of a stream.
    ///
    /// # Errors
    /// As [`StreamReader::read`].
    pub fn stream_bytes(&self, index: usize) -> Result<Vec<u8>> {
        self.stream(index)?.all()
    }

    /// The sealed token ids, if there are any: those of the signed prefix.
    ///
    /// # Errors
    /// As [`StreamReader::read`].
    pub fn tokens(&self) -> Result<Option<Vec<u32>>> {
        let bytes = self.section(&SectionKind::Tokens)?;
        Ok(bytes.map(|bytes| prefix::token_ids(&bytes)))
    }

    /// Compares the capsule's prompt with `tokens`.
    ///
    /// # Errors
    /// KVC-605 where it is another prompt, or the capsule does not name its prompt.
    pub fn check_prompt(&self, tokens: &[u32]) -> Result<()> {
        match self.prefix_value()? {
            Some(sealed) if sealed == PrefixValue::of(tokens).value => Ok(()),
            Some(_) => Err(prefix::mismatch("the capsule is of another prompt")),
            None => Err(prefix::mismatch("the capsule does not name its prompt")),
        }
    }

    fn prefix_value(&self) -> Result<Option<Digest>> {
        let Some(bytes) = self.section(&SectionKind::Prefix)? else {
            return Ok(None);
        };
        let value = bytes
            .try_into()
            .map_err(|_| prefix::mismatch("the sealed prefix value is not 32 bytes"))?;
        Ok(Some(Digest(value)))
    }

    /// CAP-P-2: the sealed value is the one committed to, and that of the sealed token ids.
    pub(super) fn check_prefix(&self) -> Result<()> {
        let Some(value) = self.prefix_value()? else {
            return Ok(());
        };
        let prefix = &self.manifest().context.prefix;
        if prefix.names(&value, self.prefix_key.as_ref()) == Some(false) {
            return Err(prefix::mismatch(
                "the sealed prefix value is not the one committed to",
            ));
        }
        match self.tokens()? {
            Some(tokens) if PrefixValue::of(&tokens).value != value => Err(prefix::mismatch(
                "the sealed token ids are of another prompt",
            )),
            _ => Ok(()),
        }
    }
}
