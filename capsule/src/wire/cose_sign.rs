//! The COSE_Sign profile: one payload, several signatures (registry-v1 §8.2). Each header has one form, so that it is
//! compared and not parsed.

use crate::{
    error::{Code, Error, Result},
    keys::{KeyId, PublicKey, SigningKey},
    wire::cbor::{self, Field, Value},
};

/// Tag 98, and the head of an array of four.
const TAG_98: [u8; 2] = [0xD8, 0x62];
const ED25519: i64 = -19;

/// Most signatures of a document.
pub(crate) const MAX_SIGNATURES: usize = 32;

/// Kind of a document.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) content: &'static str,
    pub(crate) typ: &'static str,
}

/// A document that is well formed outside: nobody has vouched for it.
#[derive(Clone)]
pub(crate) struct Signed {
    protected: Vec<u8>,
    payload: Vec<u8>,
    /// By ascending key id.
    signatures: Vec<(KeyId, [u8; 64])>,
}

impl Kind {
    fn header(self) -> Vec<u8> {
        cbor::encode(&cbor::map([
            (3, Some(cbor::text(self.content))),
            (16, Some(cbor::text(self.typ))),
        ]))
    }
}

fn signature_header(key: KeyId) -> Vec<u8> {
    cbor::encode(&cbor::map([
        (1, Some(cbor::int(ED25519))),
        (4, Some(cbor::bytes(key.0))),
    ]))
}

impl Signed {
    /// A document without signatures.
    pub(crate) fn unsigned(kind: Kind, payload: Vec<u8>) -> Self {
        Self {
            protected: kind.header(),
            payload,
            signatures: Vec::new(),
        }
    }

    /// REG-M-2.
    pub(crate) fn parse(bytes: &[u8], kind: Kind) -> Result<Self> {
        let malformed = || {
            let what = "is not a document that several keys sign";
            Error::new(Code::RegistryMalformed, what).at(kind.typ)
        };
        let body = bytes.strip_prefix(&TAG_98).ok_or_else(malformed)?;
        let value = cbor::decode(body)?;
        let field = Field::new(&value, kind.typ, Code::RegistryMalformed);
        let [protected, unprotected, payload, list] = field.tuple()?;
        let list = list.list()?;
        if protected.bytes()? != kind.header()
            || !unprotected.entries()?.is_empty()
            || list.len() > MAX_SIGNATURES
        {
            return Err(malformed());
        }
        let mut signatures: Vec<(KeyId, [u8; 64])> = Vec::new();
        for entry in list {
            let [protected, unprotected, signature] = entry.tuple()?;
            let header = protected.bytes()?;
            let id = header.last_chunk().copied().map(KeyId);
            let id = id.ok_or_else(malformed)?;
            let ascends = signatures.last().is_none_or(|(last, _)| *last < id);
            if header != signature_header(id) || !unprotected.entries()?.is_empty() || !ascends {
                return Err(malformed());
            }
            signatures.push((id, signature.array_of()?));
        }
        Ok(Self {
            protected: protected.bytes()?.to_vec(),
            payload: payload.bytes()?.to_vec(),
            signatures,
        })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let signatures = self.signatures.iter().map(|(id, signature)| {
            cbor::array([
                cbor::bytes(signature_header(*id)),
                Value::Map(Vec::new()),
                cbor::bytes(*signature),
            ])
        });
        let body = cbor::encode(&cbor::array([
            cbor::bytes(self.protected.clone()),
            Value::Map(Vec::new()),
            cbor::bytes(self.payload.clone()),
            cbor::array(signatures),
        ]));
        [&TAG_98[..], &body].concat()
    }

    /// Adds the signature of a key, in the place of one that it has made before.
    ///
    /// # Errors
    /// KVC-948 of a key that is kept elsewhere.
    pub(crate) fn sign(&mut self, id: KeyId, key: &SigningKey) -> Result<()> {
        let signature = key.sign(&self.structure(id))?;
        match self.signatures.binary_search_by_key(&id, |(id, _)| *id) {
            Ok(at) => {
                if let Some(place) = self.signatures.get_mut(at) {
                    place.1 = signature;
                }
            }
            Err(at) => self.signatures.insert(at, (id, signature)),
        }
        Ok(())
    }

    /// REG-M-4: those of `keys` that have signed. A signature of one of them that does not verify is refused.
    pub(crate) fn signers<'k>(
        &self,
        keys: impl IntoIterator<Item = (KeyId, &'k PublicKey)>,
    ) -> Result<Vec<KeyId>> {
        let mut signers = Vec::new();
        for (id, key) in keys {
            let signature = self.signatures.iter().find(|(signer, _)| *signer == id);
            if let Some((_, signature)) = signature {
                key.verify(&self.structure(id), signature)
                    .map_err(|error| {
                        Error::new(Code::RegistryUnsigned, error.what().to_owned()).at(id)
                    })?;
                signers.push(id);
            }
        }
        Ok(signers)
    }

    /// Whether a signature bears this id; nobody has verified it.
    pub(crate) fn bears(&self, id: KeyId) -> bool {
        self.signatures.iter().any(|(signer, _)| *signer == id)
    }

    /// The payload, before or after somebody vouched for it.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    fn structure(&self, signer: KeyId) -> Vec<u8> {
        cbor::encode(&cbor::array([
            cbor::text("Signature"),
            cbor::bytes(self.protected.clone()),
            cbor::bytes(signature_header(signer)),
            cbor::bytes([]),
            cbor::bytes(self.payload.clone()),
        ]))
    }
}

impl std::fmt::Debug for Signed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signed({} signatures)", self.signatures.len())
    }
}
