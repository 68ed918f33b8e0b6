//! A signed statement that two model ids are one model: the same weights in two formats
//! (model-id-v1 §13).

use crate::{
    digest::Digest,
    error::{Code, Error, Result},
    keys::{KeyId, SigningKey},
    limits::MAX_SKEW,
    text::show_instant,
    trust::{Purpose, Status, Trust, TrustedKey},
    wire::{
        cbor::{self, Field},
        cose::{self, Profile, Sign1},
    },
};

const PROFILE: Profile = Profile {
    content: "application/vnd.kvcap.models+cbor",
    typ: "application/vnd.kvcap.equivalence",
    claims: false,
};

/// Longest file.
const LONGEST: usize = 4096;

/// That two models are one, by a key that is trusted with statements about models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equivalence {
    models: [Digest; 2],
    issuer: String,
    issued_at: u64,
    expires: Option<u64>,
    key: KeyId,
}

impl Equivalence {
    /// The bytes of a statement by `issuer` that `models` are one, until `expires` or without an end; for those who have
    /// compared them.
    ///
    /// # Errors
    /// KVC-610 where the models have one id, the issuer's name is empty or too long, or it would end before it begins;
    /// 948.
    pub fn sign(
        models: [Digest; 2],
        issuer: &str,
        issued_at: u64,
        expires: Option<u64>,
        key: &SigningKey,
    ) -> Result<Vec<u8>> {
        let mut models = models;
        models.sort();
        let payload = cbor::encode(&cbor::map([
            (1, Some(cbor::uint(1))),
            (2, Some(cbor::text(issuer))),
            (3, Some(cbor::uint(issued_at))),
            (4, Some(cbor::array(models.map(|id| cbor::bytes(id.0))))),
            (5, expires.map(cbor::uint)),
        ]));
        let header = PROFILE.header(key.public().id(), None);
        // what the reader would refuse is not written
        decode(&payload)?;
        cose::sign(&header, &payload, key)
    }

    /// Reads a statement whose key `trust` lists for statements, in its window at `now`.
    ///
    /// # Errors
    /// 2xx for the envelope, 301 to 307 and 312 for key and signature, 402 where it has expired, 403 where it is of the
    /// future, 610 for what it says.
    pub fn verify(bytes: &[u8], trust: &Trust, now: u64) -> Result<Self> {
        if bytes.len() > LONGEST {
            let error = Error::new(Code::BindingStatement, "the statement is too long");
            return Err(error.sides(format_args!("at most {LONGEST} bytes"), bytes.len()));
        }
        let signed = Sign1::parse(bytes)?;
        let (id, _) = PROFILE.parse(signed.protected())?;
        trust.check_current(now)?;
        let key = trust.find(id)?;
        if key.status == Status::Compromised {
            let what = "the key is marked compromised";
            return Err(Error::new(Code::KeyCompromised, what).at(id));
        }
        let Said {
            models,
            issuer,
            issued_at,
            expires,
        } = decode(signed.verify(&key.key)?)?;
        if key.purpose != Purpose::Statements {
            return Err(Error::new(
                Code::KeyPurpose,
                "the key is not trusted with statements about models",
            )
            .at(id));
        }
        let ended = |end| end != TrustedKey::NO_END;
        if issued_at < key.not_before
            || (issued_at >= key.sign_until && ended(key.sign_until))
            || (now >= key.verify_until && ended(key.verify_until))
        {
            let what = "the statement lies outside the key's window";
            return Err(Error::new(Code::KeyWindow, what).at(id));
        }
        if issued_at > now.saturating_add(MAX_SKEW) {
            let error = Error::new(Code::ClaimsNotYetValid, "the statement is of the future");
            return Err(error.sides(
                format_args!("at most {}", show_instant(now)),
                show_instant(issued_at),
            ));
        }
        if let Some(end) = expires.filter(|end| now >= *end) {
            let error = Error::new(Code::ClaimsExpired, "the statement has expired");
            return Err(error.sides(
                format_args!("an end after {}", show_instant(now)),
                show_instant(end),
            ));
        }
        if key.issuer != issuer {
            let error = Error::new(Code::KeyIssuer, "the key belongs to another issuer");
            return Err(error.names(&[&key.issuer], Some(&issuer)));
        }
        Ok(Self {
            models,
            issuer,
            issued_at,
            expires,
            key: id,
        })
    }

    /// Refuses two models that are not the two of the statement.
    ///
    /// # Errors
    /// KVC-609.
    pub fn check(&self, one: Digest, other: Digest) -> Result<()> {
        let mut found = [one, other];
        found.sort();
        if found == self.models {
            return Ok(());
        }
        let show = |[a, b]: [Digest; 2]| format!("{a} and {b}");
        Err(Error::new(
            Code::BindingEquivalence,
            "the statement is about other models",
        )
        .sides(show(self.models), show(found)))
    }

    /// Issuer, who vouches for the equivalence.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// With which key.
    #[must_use]
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// Since when.
    #[must_use]
    pub fn issued_at(&self) -> u64 {
        self.issued_at
    }

    /// Until when, where it has an end.
    #[must_use]
    pub fn expires(&self) -> Option<u64> {
        self.expires
    }
}

struct Said {
    models: [Digest; 2],
    issuer: String,
    issued_at: u64,
    expires: Option<u64>,
}

fn decode(payload: &[u8]) -> Result<Said> {
    let value = cbor::decode(payload)?;
    let mut fields = Field::new(&value, "statement", Code::BindingStatement).fields()?;
    let format = fields.required(1, "format (1)")?;
    if format.uint()? != 1 {
        return Err(format.wrong("is not 1"));
    }
    let issuer = fields.required(2, "issuer (2)")?;
    let issued_at = fields.required(3, "issued at (3)")?.uint()?;
    let models = fields.required(4, "models (4)")?;
    let expires = fields.optional(5, "expires (5)");
    fields.end()?;
    let [one, other] = models.tuple()?;
    let ids = [Digest(one.array_of()?), Digest(other.array_of()?)];
    if ids[0] >= ids[1] {
        return Err(models.wrong("do not ascend"));
    }
    let end = expires.map(Field::uint).transpose()?;
    if let Some(field) = expires.filter(|_| end.is_some_and(|end| end <= issued_at)) {
        return Err(field.wrong("is not after it was issued"));
    }
    match issuer.text()? {
        "" => Err(issuer.wrong("is empty")),
        name => Ok(Said {
            models: ids,
            issuer: name.to_owned(),
            issued_at,
            expires: end,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn key() -> SigningKey {
        SigningKey::from_seed(&[7; 32])
    }

    fn models() -> [Digest; 2] {
        [Digest([9; 32]), Digest([3; 32])]
    }

    fn trust(change: impl FnOnce(&mut TrustedKey)) -> Trust {
        let mut key = TrustedKey::new(key().public(), "lab");
        key.purpose = Purpose::Statements;
        change(&mut key);
        let mut trust = Trust::none();
        trust.add(key).unwrap();
        trust
    }

    #[test]
    fn a_statement_is_about_its_two_models_in_any_order() {
        let bytes = Equivalence::sign(models(), "lab", NOW, None, &key()).unwrap();
        let [a, b] = models();
        assert_eq!(
            bytes,
            Equivalence::sign([b, a], "lab", NOW, None, &key()).unwrap()
        );
        let read = Equivalence::verify(&bytes, &trust(|_| {}), NOW).unwrap();
        assert_eq!((read.issuer(), read.issued_at()), ("lab", NOW));
        assert_eq!(read.key(), key().public().id());
        read.check(a, b).unwrap();
        read.check(b, a).unwrap();
        let error = read.check(a, a).unwrap_err();
        assert_eq!(error.code(), Code::BindingEquivalence);
        for (wrong, issuer) in [([a, a], "lab"), ([a, b], "")] {
            let error = Equivalence::sign(wrong, issuer, NOW, None, &key()).unwrap_err();
            assert_eq!(error.code(), Code::BindingStatement);
        }
    }

    #[test]
    fn who_may_vouch_and_when() {
        let bytes = Equivalence::sign(models(), "lab", NOW, None, &key()).unwrap();
        let code = |trust: &Trust, now| {
            let error = Equivalence::verify(&bytes, trust, now).unwrap_err();
            error.code().number()
        };
        assert_eq!(code(&Trust::none(), NOW), 301);
        assert_eq!(
            code(&Trust::from(TrustedKey::new(key().public(), "lab")), NOW),
            302
        );
        assert_eq!(code(&trust(|k| k.status = Status::Compromised), NOW), 304);
        assert_eq!(code(&trust(|k| k.sign_until = NOW), NOW), 303);
        assert_eq!(code(&trust(|k| k.not_before = NOW + 1), NOW), 303);
        assert_eq!(code(&trust(|k| k.verify_until = NOW), NOW), 303);
        assert_eq!(code(&trust(|k| k.issuer = "other".to_owned()), NOW), 312);
        let within = trust(|k| {
            (k.not_before, k.sign_until, k.verify_until) = (NOW, NOW + 1, NOW + 1);
        });
        Equivalence::verify(&bytes, &within, NOW).unwrap();
        assert_eq!(code(&trust(|_| {}), NOW - MAX_SKEW - 1), 403);
        Equivalence::verify(&bytes, &trust(|_| {}), NOW - MAX_SKEW).unwrap();
    }

    /// MOD-E-8.
    #[test]
    fn a_statement_ends_when_it_says() {
        let bytes = Equivalence::sign(models(), "lab", NOW, Some(NOW + 9), &key()).unwrap();
        let read = Equivalence::verify(&bytes, &trust(|_| {}), NOW + 8).unwrap();
        assert_eq!(read.expires(), Some(NOW + 9));
        let error = Equivalence::verify(&bytes, &trust(|_| {}), NOW + 9).unwrap_err();
        assert_eq!(error.code(), Code::ClaimsExpired);
        let error = Equivalence::sign(models(), "lab", NOW, Some(NOW), &key()).unwrap_err();
        assert_eq!(error.code(), Code::BindingStatement);
    }

    #[test]
    fn every_bit_and_every_cut_is_refused() {
        let bytes = Equivalence::sign(models(), "lab", NOW, None, &key()).unwrap();
        let trust = trust(|_| {});
        for at in 0..bytes.len() {
            Equivalence::verify(&bytes[..at], &trust, NOW).unwrap_err();
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                Equivalence::verify(&bytes, &trust, NOW).unwrap_err();
            }
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(
            Equivalence::verify(&longer, &trust, NOW)
                .unwrap_err()
                .code(),
            Code::CborTrailing
        );
        let long = vec![0; LONGEST + 1];
        let error = Equivalence::verify(&long, &trust, NOW).unwrap_err();
        assert_eq!(error.code(), Code::BindingStatement);
        let error = Equivalence::verify(&long[1..], &trust, NOW).unwrap_err();
        assert_ne!(error.code(), Code::BindingStatement);
        // a capsule's header is another kind of document
        let header = Profile {
            typ: "application/vnd.kvcap",
            ..PROFILE
        };
        let header = header.header(key().public().id(), None);
        let other = cose::sign(&header, b"", &key()).unwrap();
        assert_eq!(
            Equivalence::verify(&other, &trust, NOW).unwrap_err().code(),
            Code::CoseType
        );
    }
}
