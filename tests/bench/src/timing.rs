//! `kvcap-bench timing`: whether comparisons and computations on secrets take a time that tells of them.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use kvcap::{
    ChunkSteps, Code, Error, PrefixValue, RecipientKind, Result, SecretSteps, SigningKey, Suite,
    WrappingKey, binding::Digest,
};
use serde_json::json;

use super::report::Report;

/// Compares the times of two classes of secrets, by Welch's t, as dudect does
///
/// Each measurement is a batch of calls on one of two inputs, in an order drawn by chance: one input that agrees up to
/// its last byte against one that differs in its first, or a key of zeros against keys drawn anew. The slowest tenth
/// of all is left out. |t| over 10 says that the classes differ in time; what is under 5 shows nothing. A comparison
/// that ends at the first difference is measured as well, and the run fails where that one is not found.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Measurements of each
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(500..=10_000_000))]
    measurements: u32,
}

/// Over this |t| says that two classes differ.
const DIFFER: f64 = 10.0;

/// A generator that decides an order: no secret hangs on it.
struct Order(u64);

impl Order {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn key(&mut self) -> [u8; 32] {
        let mut key = [0; 32];
        for piece in key.chunks_exact_mut(8) {
            piece.copy_from_slice(&self.next().to_le_bytes());
        }
        key
    }
}

/// Times in nanoseconds of the two classes.
type Times = [Vec<f64>; 2];

/// # Errors
/// KVC-940 where the system gives no randomness, or where the planted comparison is not found.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let mut report = Report::new();
    let (mut rows, mut facts) = (Vec::new(), Vec::new());
    let mut planted = 0.0;
    for (name, what) in SUBJECTS {
        let times = what(args.measurements)?;
        let t = welch(times);
        if *name == PLANTED {
            planted = t.abs();
        }
        rows.push(vec![(*name).to_owned(), format!("{t:.2}")]);
        facts.push(json!({ "name": name, "t": t }));
    }
    report.table(&[("what", '<'), ("t", '>')], &rows);
    report.fact("measurements", args.measurements);
    report.fact("subjects", facts);
    if planted > DIFFER {
        return Ok(report);
    }
    let what = format!("the planted comparison gives t = {planted:.2}, which shows nothing");
    Err(Error::new(Code::LocalIo, what))
}

const PLANTED: &str = "planted: ends at the first difference, 4096 bytes";

/// Name and measurement.
type Measure = fn(u32) -> Result<Times>;

const SUBJECTS: &[(&str, Measure)] = &[
    (PLANTED, planted),
    ("commitment (CAP-A-1)", commitment),
    ("prompt under a prefix key (capsule-v1 §6.5)", prompt),
    ("tag of a chunk, suite 1", tag_of_suite_1),
    ("tag of a chunk, suite 2", tag_of_suite_2),
    ("check digits of a secret key's line", check_digits),
    ("public half of an Ed25519 seed", ed25519),
    ("public half of an X25519 key", x25519),
];

/// A buffer whose first or last byte is changed: what differs late, and what differs at once.
fn changed(bytes: &mut [u8], early: bool) {
    let at = if early { 0 } else { bytes.len() - 1 };
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
}

fn planted(count: u32) -> Result<Times> {
    let secret = vec![0x5A_u8; 4096];
    let mut guess = secret.clone();
    measure(count, 8, |early, _, run| {
        guess.copy_from_slice(&secret);
        changed(&mut guess, early);
        run(&mut || {
            let (guess, secret) = (black_box(&guess), black_box(&secret));
            black_box(guess.iter().zip(secret).all(|(a, b)| a == b));
        });
    })
}

fn commitment(count: u32) -> Result<Times> {
    let derived = Digest([0x5A; 32]);
    measure(count, 16, |early, _, run| {
        let mut signed = derived;
        changed(&mut signed.0, early);
        run(&mut || {
            black_box(SecretSteps::commitment_is(
                black_box(&derived),
                black_box(&signed),
            ));
        });
    })
}

fn prompt(count: u32) -> Result<Times> {
    let key = WrappingKey::from_bytes([0x5A; 32]).prefix_key()?;
    let key = key.ok_or_else(no_secret)?;
    let value = PrefixValue::of(&[1, 2, 3]);
    let own = value.keyed(&key);
    measure(count, 16, |early, _, run| {
        let mut other = own;
        if let kvcap::Prefix::Keyed { commitment, .. } = &mut other {
            changed(&mut commitment.0, early);
        }
        run(&mut || {
            black_box(SecretSteps::prompt_is(
                black_box(&other),
                black_box(&value.value),
                &key,
            ));
        });
    })
}

fn tag_of_suite_1(count: u32) -> Result<Times> {
    tag(Suite::ChaCha20Poly1305, count)
}

fn tag_of_suite_2(count: u32) -> Result<Times> {
    tag(Suite::Aes256Gcm, count)
}

fn tag(suite: Suite, count: u32) -> Result<Times> {
    let steps = ChunkSteps::new(suite)?;
    let mut sealed = [0x5A_u8; 64];
    let right = steps.seal(0, &mut sealed)?;
    let mut out = [0_u8; 64];
    measure(count, 16, |early, _, run| {
        let mut wrong = right;
        changed(&mut wrong, early);
        run(&mut || {
            let refused = steps.open(0, black_box(&sealed), black_box(&wrong), &mut out);
            black_box(refused.is_err());
        });
    })
}

fn check_digits(count: u32) -> Result<Times> {
    let line = WrappingKey::from_bytes([0x5A; 32]).to_secret_text();
    let line = line.ok_or_else(no_secret)?.to_string();
    // the last eight digits
    let at = line.len().saturating_sub(8);
    let other = |digit: u8| if digit == b'0' { b'1' } else { b'0' };
    measure(count, 16, |early, _, run| {
        let mut bytes = line.clone().into_bytes();
        let place = if early { at } else { bytes.len() - 1 };
        if let Some(digit) = bytes.get_mut(place) {
            *digit = other(*digit);
        }
        let text = String::from_utf8(bytes).unwrap_or_default();
        run(&mut || {
            black_box(WrappingKey::from_text(black_box(&text)).is_err());
        });
    })
}

/// A key that holds no secret, which none of these is.
fn no_secret() -> Error {
    Error::new(Code::LocalKeyMalformed, "the key holds no secret")
}

/// A key of zeros against keys drawn anew.
fn drawn(fixed: bool, order: &mut Order) -> [u8; 32] {
    let drawn = order.key();
    if fixed { [0; 32] } else { drawn }
}

fn ed25519(count: u32) -> Result<Times> {
    measure(count / 10, 1, |fixed, order, run| {
        let seed = drawn(fixed, order);
        run(&mut || {
            black_box(SigningKey::from_seed(black_box(&seed)).public());
        });
    })
}

fn x25519(count: u32) -> Result<Times> {
    measure(count / 10, 1, |fixed, order, run| {
        let seed = drawn(fixed, order);
        run(&mut || {
            black_box(WrappingKey::of(RecipientKind::X25519, black_box(seed)));
        });
    })
}

/// Times `batch` calls at once, `count` times, of a class that is drawn by chance.
fn measure(
    count: u32,
    batch: u32,
    mut subject: impl FnMut(bool, &mut Order, &mut dyn FnMut(&mut dyn FnMut())),
) -> Result<Times> {
    let (mut order, mut times) = (Order(1), Times::default());
    for _ in 0..count {
        let class = order.next() & 1 == 1;
        let mut taken = Duration::ZERO;
        subject(class, &mut order, &mut |call| {
            let start = Instant::now();
            for _ in 0..batch {
                call();
            }
            taken = start.elapsed();
        });
        if let Some(of) = times.get_mut(usize::from(class)) {
            of.push(taken.as_secs_f64() * 1e9);
        }
    }
    Ok(times)
}

/// Welch's t of two classes, without the slowest tenth of both together.
fn welch(times: Times) -> f64 {
    let mut all: Vec<f64> = times.concat();
    all.sort_by(f64::total_cmp);
    let most = all.get(all.len() / 10 * 9).copied().unwrap_or(f64::MAX);
    let [first, second] = times.map(|class| {
        let kept: Vec<f64> = class.into_iter().filter(|time| *time <= most).collect();
        let n = super::number(kept.len()).max(2.0);
        let mean = kept.iter().sum::<f64>() / n;
        let squares: f64 = kept.iter().map(|time| (time - mean).powi(2)).sum();
        (mean, squares / (n - 1.0) / n)
    });
    (first.0 - second.0) / (first.1 + second.1).sqrt().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::welch;

    #[test]
    fn two_classes_of_one_distribution_are_not_told_apart() {
        let class = |shift: u32| {
            (0..1000)
                .map(|n| f64::from((n * 37 + shift) % 101))
                .collect()
        };
        assert!(welch([class(0), class(50)]).abs() < 3.0);
    }

    #[test]
    fn a_difference_of_half_a_range_is_found() {
        let class = |plus: f64| (0..1000).map(|n| f64::from(n * 37 % 101) + plus).collect();
        assert!(welch([class(0.0), class(50.0)]) < -10.0);
    }
}
