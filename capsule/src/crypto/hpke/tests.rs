//! Known answers of both KEMs, and what a careless or hostile sender may give.

use super::*;

/// The hexadecimal value of a name in a `.kat` file.
fn value(kat: &str, name: &str) -> Vec<u8> {
    let line = kat.lines().find_map(|line| line.strip_prefix(name));
    let digits = line.unwrap().trim().as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks_exact(2).map(byte).collect()
}

fn known_answer<K: hpke::Kem, const N: usize>(kem: Kem, kat: &str) {
    let value = |name| value(kat, name);
    let secret = value("skRm").try_into().unwrap();
    assert_eq!(public(kem, &secret), value("pkRm"));
    let (info, aad) = (value("info"), value("aad"));
    let bound = Bound {
        info: &info,
        aad: &aad,
    };
    let (enc, ct) = (value("enc"), value("ct"));
    let plain = open_by::<K, N>(&secret, bound, &enc, &ct).ok().unwrap();
    assert_eq!(plain.as_slice(), value("pt"));
    for at in [0, ct.len() - 1] {
        let mut ct = ct.clone();
        ct[at] ^= 1;
        assert!(open_by::<K, N>(&secret, bound, &enc, &ct).is_err());
    }
}

#[test]
fn the_suites_give_their_known_answers() {
    known_answer::<X25519HkdfSha256, 29>(Kem::X25519, include_str!("rfc9180.kat"));
    known_answer::<XWing, 58>(Kem::XWing, include_str!("xwing.kat"));
}

const BOUND: Bound<'static> = Bound {
    info: b"info",
    aad: b"aad",
};

fn sealed(kem: Kem, secret: &[u8; 32]) -> Wrapped {
    let mut entropy = Entropy::danger_chosen(b"hpke");
    let public = public(kem, secret);
    assert!(is_sound(kem, &public));
    let sealed = seal(kem, &public, BOUND, &[7; 32], &mut entropy);
    sealed.unwrap().ok().unwrap()
}

#[test]
fn only_the_secret_half_opens_and_only_as_bound() {
    for kem in [Kem::X25519, Kem::XWing] {
        let (mine, other) = ([1; 32], [2; 32]);
        let (enc, wrapped) = sealed(kem, &mine);
        let back = open(kem, &mine, BOUND, &enc, &wrapped).ok().unwrap();
        assert_eq!(*back, [7; 32]);
        let elsewhere = [Bound { info: b"", ..BOUND }, Bound { aad: b"", ..BOUND }];
        for bound in elsewhere {
            assert!(open(kem, &mine, bound, &enc, &wrapped).is_err());
        }
        assert!(open(kem, &other, BOUND, &enc, &wrapped).is_err());
        for at in [0, enc.len() / 2, enc.len() - 1] {
            let mut enc = enc.clone();
            enc[at] ^= 1;
            assert!(
                open(kem, &mine, BOUND, &enc, &wrapped).is_err(),
                "{kem:?} {at}"
            );
        }
        for len in [0, enc.len() - 1] {
            assert!(open(kem, &mine, BOUND, &enc[..len], &wrapped).is_err());
        }
    }
}

#[test]
fn points_of_small_order_agree_on_nothing() {
    // u = 0, 1 and p - 1 of Curve25519
    let mut one = [0; 32];
    one[0] = 1;
    let mut minus_one = [0xFF; 32];
    (minus_one[0], minus_one[31]) = (0xEC, 0x7F);
    let (_, wrapped) = sealed(Kem::X25519, &[1; 32]);
    for point in [[0; 32], one, minus_one] {
        assert!(!is_sound(Kem::X25519, &point));
        assert!(open(Kem::X25519, &[1; 32], BOUND, &point, &wrapped).is_err());
    }
    assert!(!is_sound(Kem::X25519, &[9; 31]));
    assert!(!is_sound(Kem::XWing, &[9; 1215]));
    // a coefficient of ML-KEM's part that is not reduced
    assert!(!is_sound(Kem::XWing, &[0xFF; 1216]));
}

/// The message opens by X-Wing as the crate has it, so that nothing but our rule refuses it.
#[test]
fn x_wing_has_no_point_of_small_order_either() {
    let value = |name| value(include_str!("xwing_zero.kat"), name);
    let secret = value("skRm").try_into().unwrap();
    let (enc, ct) = (value("enc"), value("ct"));
    let bare = open_by::<XWing, 32>(&secret, BOUND, &enc, &ct);
    assert_eq!(bare.ok().unwrap().as_slice(), value("pt"));
    let ct: [u8; 48] = ct.try_into().unwrap();
    assert!(open(Kem::XWing, &secret, BOUND, &enc, &ct).is_err());

    let mut weak = public(Kem::XWing, &secret);
    weak[1184..].fill(0);
    assert!(!is_sound(Kem::XWing, &weak));
}
