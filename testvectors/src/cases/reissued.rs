//! New headers over the same body (lineage-v1 §1): renewed and rewrapped capsules, and claims that
//! no renewal gives.

use std::io::Cursor;

use kvcap::{
    Expected, Limits, MAX_LIFETIME, Policy, Reissued, Reissuer, Renewal, Rewrap, SigningKey, Terms,
    Trust, TrustedKey, Untrusted, Verified, hazmat::Entropy,
};

use super::{
    accept::{memory, once},
    recipients::{beside, by_pair, by_wing, pair, wing},
};
use crate::{
    case::{Made, keys, sealed},
    cases,
    context::{Context, Trusted},
    fixture::{self, Capsule, EXPIRES, ISSUED, NOW, SIGN_SEED},
    parts,
    raw::{edit_map, encode, int, put, text},
};

/// Seed of the issuer's later key.
const LATER_SEED: [u8; 32] = [0x53; 32];
/// What the issuer lets no renewal pass, where he says nothing.
const CAP: u64 = ISSUED + MAX_LIFETIME;

fn trust() -> Trust {
    let mut trust = Trust::none();
    for seed in [SIGN_SEED, LATER_SEED] {
        let key = SigningKey::from_seed(&seed).public();
        trust.add(TrustedKey::new(key, fixture::ISSUER)).unwrap();
    }
    trust
}

fn verified(file: &[u8], trust: &Trust) -> Verified {
    let mut policy = Policy::new(trust, NOW, fixture::AUDIENCE, Expected::danger_any_model());
    policy.subject = Some(fixture::SUBJECT.to_owned());
    policy.tenant = Some(fixture::TENANT.to_owned());
    let untrusted = Untrusted::read_at(&file, &Limits::default()).unwrap();
    untrusted.verify(&policy).unwrap()
}

/// The capsule under the header that `make` gives, signed at [`NOW`].
fn under(
    capsule: &Capsule,
    seed: [u8; 32],
    make: impl FnOnce(&Verified, &Reissuer<'_>) -> Reissued,
) -> Capsule {
    let (trust, key) = (trust(), SigningKey::from_seed(&seed));
    let by = Reissuer::new(&key, &trust, NOW);
    let header = make(&verified(&capsule.file, &trust), &by);
    let mut file = Cursor::new(Vec::new());
    header
        .write(&mut Cursor::new(&capsule.file), &mut file)
        .unwrap();
    Capsule {
        file: file.into_inner(),
        plain: capsule.plain.clone(),
    }
}

fn renewal_of(capsule: &Capsule, seed: [u8; 32], expires: u64, scope: Option<&str>) -> Capsule {
    let mut renewal = Renewal::until(expires);
    renewal.scope = scope.map(str::to_owned);
    under(capsule, seed, |old, by| old.renew(&renewal, by).unwrap())
}

/// The capsule for one use, renewed to end sooner.
pub(super) fn shortened() -> Made {
    let Made { file, plain, .. } = once();
    Made::of(renewal_of(
        &Capsule { file, plain },
        SIGN_SEED,
        NOW + 3,
        None,
    ))
}

fn handed_to_wing(audience: Option<&str>) -> Capsule {
    let (key, other) = (pair(), wing());
    let public = other.public().unwrap();
    let to = [(&public).into()];
    let mut rewrap = Rewrap::to(&to);
    rewrap.audience = audience.map(str::to_owned);
    under(&beside(&key), SIGN_SEED, |old, by| {
        let entropy = Entropy::danger_chosen(b"rewrapped");
        old.danger_rewrap_with_entropy(&key, &rewrap, by, entropy)
            .unwrap()
    })
}

/// The base capsule with other terms.
fn capsule(seed: &str, change: impl FnOnce(&mut Terms)) -> Capsule {
    let mut terms = fixture::terms();
    change(&mut terms);
    let context = fixture::context();
    let plain = fixture::contents(&context);
    fixture::seal(
        seed,
        terms,
        context,
        plain,
        &[],
        &[fixture::WRAP_KEY],
        Vec::new(),
    )
}

/// One second before the cap, when the capsule that was not renewed is long over.
fn late(context: &mut Context) {
    context.now = CAP - 1;
}

/// The first key signed until now, and the later one signs from now on.
fn rotated(context: &mut Context) {
    context.trust[0].sign_until = Some(NOW);
    context.trust.push(Trusted {
        not_before: NOW,
        ..Trusted::of(&parts::public(&LATER_SEED))
    });
}

/// The base capsule with another cap, sealed under it.
fn capped(cap: &[u8]) -> Made {
    sealed(|parts| put(&mut parts.header, &keys([15, -70_004]), cap))
}

fn number(cap: u64) -> Vec<u8> {
    encode(&int(cap))
}

cases! {
    /// renewed to the cap, and opened in its last second
    renewed: A 0 Accept ["LIN-N-2" "LIN-N-3" "LIN-N-4"] = Made::of(renewal_of(&fixture::base(), SIGN_SEED, CAP, None)).when(late);
    /// renewed by a later key of the issuer, with a narrower scope
    renewed_later_key: A 0 Accept ["LIN-N-5" "LIN-N-6"] =
        Made::of(renewal_of(&fixture::base(), LATER_SEED, CAP, Some("kv:restore"))).when(rotated);
    /// a renewal of a renewal
    renewed_twice: A 0 Accept ["LIN-N-3"] = {
        let once = renewal_of(&fixture::base(), SIGN_SEED, EXPIRES + 1, None);
        Made::of(renewal_of(&once, SIGN_SEED, CAP, None)).when(late)
    };
    /// single use: another header, the same exp
    renewed_single_use: A 0 Accept ["LIN-N-3" "REG-U-4"] = {
        let Made { file, plain, .. } = once();
        Made::of(renewal_of(&Capsule { file, plain }, SIGN_SEED, EXPIRES, None))
            .when(|context| context.memory = memory(None, &[]))
    };
    /// renewed to the cap that the issuer stated
    renewed_stated_cap: A 0 Accept ["LIN-N-3" "LIN-N-4"] = {
        let own = capsule("own cap", |terms| terms.renew_until = EXPIRES + 60);
        Made::of(renewal_of(&own, SIGN_SEED, EXPIRES + 60, None)).when(|context| context.now = EXPIRES + 59)
    };
    /// types 1 and 2, rewrapped for a key of type 3
    rewrapped: A 0 Accept ["LIN-N-2" "LIN-N-7"] = Made::of(handed_to_wing(None)).when(by_wing);
    /// the same, for another audience
    handed_over: A 0 Accept ["LIN-N-7"] = Made::of(handed_to_wing(Some("other.example.com"))).when(|context| {
        by_wing(context);
        context.audiences = vec!["other.example.com".to_owned()];
    });
    /// a former recipient of a rewrapped capsule
    rewrapped_former_hpke: C 809 Open ["CAP-R-2"] = Made::of(handed_to_wing(None)).when(by_pair);
    /// the symmetric one
    rewrapped_former_secret: C 809 Open ["CAP-R-2"] = Made::of(handed_to_wing(None));
    /// now = the renewed exp
    renewed_expired: C 402 Verify ["LIN-N-3"] =
        Made::of(renewal_of(&fixture::base(), SIGN_SEED, CAP, None)).when(|context| context.now = CAP);
    /// renewed by the earlier key after its end
    renewed_earlier_key: C 303 Verify ["LIN-N-6" "CAP-K-3"] =
        Made::of(renewal_of(&fixture::base(), SIGN_SEED, CAP, None)).when(rotated);
    /// exp = the cap
    exp_at_cap: A 0 Accept ["LIN-N-4"] = capped(&number(EXPIRES));
    /// exp one second past the cap
    exp_past_cap: R 404 Verify ["LIN-N-4"] = capped(&number(EXPIRES - 1));
    /// a renewed capsule whose holder of the key states a later exp
    renewed_past_cap: R 404 Verify ["LIN-N-4"] = {
        let mut parts = parts::Parts::of(&renewal_of(&fixture::base(), SIGN_SEED, CAP, None));
        put(&mut parts.header, &keys([15, 4]), &number(CAP + 1));
        parts.sign();
        Made::of(Capsule { file: parts.file(), plain: parts.plain })
    };
    /// a cap far beyond the longest lifetime changes nothing of it
    cap_beyond_lifetime: A 0 Accept ["LIN-N-4"] = capped(&number(u64::MAX));
    /// no cap
    cap_missing: R 401 Header ["CAP-E-9"] = sealed(|parts| {
        edit_map(&mut parts.header, &keys([15]), |claims| claims.retain(|(key, _)| *key != int(-70_004)));
    });
    /// a cap of text
    cap_text: R 401 Header ["CAP-E-9"] = capped(&encode(&text("later")));
    /// a cap of −1
    cap_negative: R 401 Header ["CAP-E-9"] = capped(&encode(&int(-1)));
    /// a new header that names another subject: ctx is another
    renewed_other_subject: R 804 Open ["LIN-N-2" "§9.1"] = {
        let mut parts = parts::Parts::of(&renewal_of(&fixture::base(), SIGN_SEED, CAP, None));
        put(&mut parts.header, &keys([15, 2]), &encode(&text("somebody")));
        parts.sign();
        Made::of(Capsule { file: parts.file(), plain: parts.plain })
            .when(|context| context.subject = Some("somebody".to_owned()))
    };
}
