//! Codec vectors: plain bytes, encoded bytes, decoded bytes (`codec/README.md`).

pub mod bytes;
mod edges;
mod exact;
mod lossy;
mod profiled;
mod refused;
mod transform;

use kvcap_codecs::{AffineParams, BankShape, Codec, Dtype, Pairing, ParamDtype, Scratch};
use serde::{Deserialize, Serialize};

use crate::{
    decode::{Coding, Turned},
    hex::hex,
};
use bytes::Bytes;

/// File in which they are stored.
pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/codec/vectors.json.gz");

/// One vector, as the file states it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the README describes each field")]
pub struct Vector {
    pub name: String,
    pub dtype: Vec<u64>,
    pub codec: Vec<u64>,
    pub shape: Vec<u64>,
    pub rotation: Option<Angles>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Bytes>,
    pub plain: Option<Bytes>,
    pub encoded: Option<Bytes>,
    pub decoded: Option<Bytes>,
    pub receipt: Option<String>,
    pub free: bool,
    pub code: u16,
}

/// Rotation of keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the README describes each field")]
pub struct Angles {
    pub pairing: u64,
    pub frequencies: Vec<String>,
    pub start: i64,
    pub listed: Option<Vec<i64>>,
}

/// Subject of a vector, in the library's types.
#[derive(Clone, Debug)]
pub struct Subject {
    dtype: Dtype,
    codec: Codec,
    shape: BankShape,
    turned: Option<Turned>,
    profile: Option<Vec<u8>>,
}

const PARAMS: [ParamDtype; 3] = [ParamDtype::F16, ParamDtype::Bf16, ParamDtype::F32];

fn numbers_of_dtype(dtype: Dtype) -> Vec<u64> {
    let mut numbers = vec![dtype.code().into()];
    if let Dtype::MlxAffine(p) = dtype {
        numbers.extend::<[u64; 3]>([
            p.bits.into(),
            p.group.into(),
            p.params.dtype().code().into(),
        ]);
    }
    numbers
}

fn dtype_of(numbers: &[u64]) -> Dtype {
    let [code, affine @ ..] = numbers else {
        panic!("no element type");
    };
    let affine = (!affine.is_empty()).then(|| {
        let params = PARAMS
            .into_iter()
            .find(|p| u64::from(p.dtype().code()) == affine[2]);
        AffineParams::new(affine[0] as u8, affine[1] as u16, params.unwrap()).unwrap()
    });
    Dtype::from_code(*code as u8, affine).unwrap()
}

impl Vector {
    /// Returns its subject.
    #[must_use]
    pub fn subject(&self) -> Subject {
        let turned = self.rotation.as_ref().map(|turns| Turned {
            pairing: [Pairing::Half, Pairing::Interleaved][turns.pairing as usize],
            frequencies: turns
                .frequencies
                .iter()
                .map(|bits| f64::from_bits(u64::from_str_radix(bits, 16).unwrap()))
                .collect(),
            start: turns.start,
            listed: turns.listed.clone(),
        });
        Subject {
            dtype: dtype_of(&self.dtype),
            codec: Codec::from_id(self.codec[0], &self.codec[1..]).unwrap(),
            shape: match self.shape[..] {
                [0, heads, tokens, dim] => BankShape::Tokens { heads, tokens, dim },
                _ => BankShape::Whole {
                    dims: self.shape[1..].to_vec(),
                },
            },
            turned,
            profile: self.profile.as_ref().and_then(Bytes::get),
        }
    }

    /// Checks that the path of `scratch` does what the vector states.
    ///
    /// # Errors
    /// What it does instead.
    pub fn check(&self, scratch: &mut Scratch) -> Result<(), String> {
        let subject = self.subject();
        let coding = subject.coding();
        let plain = self.plain.as_ref().and_then(Bytes::get);
        let stated = self.encoded.as_ref().and_then(Bytes::get);
        let made = match (&plain, self.free) {
            (Some(plain), false) => Some(coding.encode(plain, scratch)),
            _ => None,
        };
        let encoded = match (made, stated) {
            (Some(Err(error)), _) if self.code == error.code() => return Ok(()),
            (Some(Err(error)), _) => return Err(format!("not encoded: {error}")),
            (Some(Ok(made)), _) if self.encoded.as_ref().is_some_and(|all| all.are(&made)) => made,
            (Some(Ok(_)), _) => return Err("other encoded bytes".to_owned()),
            (None, Some(stated)) => stated,
            (None, None) => return Err("nothing to decode".to_owned()),
        };
        let decoded = match coding.decode(&encoded, scratch) {
            Err(error) if self.code == error.code() => return Ok(()),
            Err(error) => return Err(format!("not decoded: {error}")),
            Ok(_) if self.code != 0 => return Err("decoded".to_owned()),
            Ok(decoded) => decoded,
        };
        let wanted = self
            .decoded
            .as_ref()
            .or(self.plain.as_ref())
            .ok_or("no decoded bytes")?;
        if !wanted.are(&decoded) {
            return Err("other decoded bytes".to_owned());
        }
        if let (Some(receipt), Some(plain)) = (&self.receipt, &plain) {
            let found = coding.receipt(plain, &decoded, scratch);
            if found.as_ref().map(|found| hex(found)) != Ok(receipt.clone()) {
                return Err(format!("receipt {found:?}"));
            }
        }
        Ok(())
    }
}

impl Subject {
    /// A bank of this element type, codec and shape.
    fn new(dtype: Dtype, codec: Codec, shape: BankShape) -> Self {
        Self {
            dtype,
            codec,
            shape,
            turned: None,
            profile: None,
        }
    }

    fn rows(dtype: Dtype, codec: Codec, [heads, tokens, dim]: [u64; 3]) -> Self {
        Self::new(dtype, codec, BankShape::Tokens { heads, tokens, dim })
    }

    fn turned(mut self, pairing: Pairing, frequencies: Vec<f64>, start: i64) -> Self {
        self.turned = Some(Turned {
            pairing,
            frequencies,
            start,
            listed: None,
        });
        self
    }

    fn profiled(mut self, profile: Vec<u8>) -> Self {
        self.profile = Some(profile);
        self
    }

    fn listed(mut self, positions: Vec<i64>) -> Self {
        self.turned.as_mut().unwrap().listed = Some(positions);
        self
    }

    fn coding(&self) -> Coding<'_> {
        Coding {
            codec: self.codec,
            shape: &self.shape,
            dtype: self.dtype,
            turned: self.turned.as_ref(),
            profile: self.profile.as_deref(),
        }
    }

    /// A vector that states nothing but what it is about.
    fn empty(&self, name: &str, code: u16) -> Vector {
        let mut codec = vec![self.codec.id().into()];
        codec.extend(self.codec.params());
        let turns = |turned: &Turned| Angles {
            pairing: u64::from(turned.pairing == Pairing::Interleaved),
            frequencies: turned
                .frequencies
                .iter()
                .map(|f| format!("{:016x}", f.to_bits()))
                .collect(),
            start: turned.start,
            listed: turned.listed.clone(),
        };
        Vector {
            name: name.to_owned(),
            dtype: numbers_of_dtype(self.dtype),
            codec,
            shape: match &self.shape {
                BankShape::Tokens { heads, tokens, dim } => vec![0, *heads, *tokens, *dim],
                BankShape::Whole { dims } => [&[1][..], dims].concat(),
            },
            rotation: self.turned.as_ref().map(turns),
            profile: self.profile.as_deref().map(Bytes::full),
            plain: None,
            encoded: None,
            decoded: None,
            receipt: None,
            free: false,
            code,
        }
    }

    /// `plain`, what the oracle makes of it, and what comes back.
    fn encoding(&self, name: &str, plain: Bytes) -> Vector {
        let mut scratch = Scratch::with_path("reference").unwrap();
        let bytes = plain.get().unwrap();
        let encoded = self.coding().encode(&bytes, &mut scratch).unwrap();
        let decoded = self.coding().decode(&encoded, &mut scratch).unwrap();
        let lossy = !self.codec.is_exact();
        let receipt = lossy.then(|| {
            self.coding()
                .receipt(&bytes, &decoded, &mut scratch)
                .unwrap()
        });
        let free = !self.codec.is_fixed_rate();
        Vector {
            encoded: Some(match () {
                () if encoded == bytes => plain.clone(),
                () if free => Bytes::full(&encoded),
                () => Bytes::of(&encoded),
            }),
            decoded: lossy.then(|| Bytes::of(&decoded)),
            plain: Some(plain),
            receipt: receipt.map(|receipt| hex(&receipt)),
            free,
            ..self.empty(name, 0)
        }
    }

    /// Encoded bytes that no encoder of ours makes, and what they decode to.
    fn decoding(&self, name: &str, encoded: Bytes) -> Vector {
        let mut scratch = Scratch::with_path("reference").unwrap();
        let bytes = encoded.get().unwrap();
        let decoded = self.coding().decode(&bytes, &mut scratch).unwrap();
        Vector {
            encoded: Some(encoded),
            decoded: Some(Bytes::of(&decoded)),
            ..self.empty(name, 0)
        }
    }

    /// Plain bytes that cannot be encoded.
    fn not_encoded(&self, name: &str, plain: &[u8], code: u16) -> Vector {
        Vector {
            plain: Some(Bytes::full(plain)),
            ..self.empty(name, code)
        }
    }

    /// Encoded bytes that must be refused.
    fn not_decoded(&self, name: &str, encoded: &[u8], code: u16) -> Vector {
        Vector {
            encoded: Some(Bytes::full(encoded)),
            ..self.empty(name, code)
        }
    }
}

/// Every vector.
#[must_use]
pub fn vectors() -> Vec<Vector> {
    let mut all = exact::vectors();
    all.extend(lossy::vectors());
    all.extend(refused::vectors());
    all.extend(transform::vectors());
    all.extend(profiled::vectors());
    all
}

/// `codec/vectors.json.gz`: one vector a line.
#[must_use]
pub fn text() -> String {
    let lines: Vec<String> = vectors()
        .iter()
        .map(|vector| serde_json::to_string(vector).unwrap())
        .collect();
    format!("{{\"format\":1,\"vectors\":[\n{}\n]}}\n", lines.join(",\n"))
}
