//! tc by a profile, and profiles that are refused (codecs-v1 §12.7).

#[path = "../../../tests/testkit/src/profile.rs"]
#[allow(unreachable_pub, dead_code, reason = "of a crate that shares it")]
mod made_profile;

use kvcap_codecs::{Codec, Dtype, Pairing, Scratch};

use super::{
    Subject, Vector,
    lossy::{frequencies, smooth},
    transform::free,
};
use made_profile::{Entry, made};

const fn codec(transform: u8, rate: u16) -> Codec {
    Codec::Transform { transform, rate }
}

fn profile(transform: u8, heads: u16, dim: u16) -> Vec<u8> {
    let other = Entry::new(0, 0, 1, 1, 4);
    let points = [(90_000, vec![100, 90]), (3_000, vec![200, 210])];
    made(
        [7; 32],
        &[other, Entry::new(0, 1, transform, heads, dim)],
        &points,
    )
}

fn accepted() -> Vec<Vector> {
    let mut all = Vec::new();
    for transform in [1, 2] {
        for dtype in [Dtype::F16, Dtype::Bf16, Dtype::F32] {
            let kind = dtype.name();
            // two frames, an odd number of components, 44 tokens after whole lanes
            let shape = [2, 300, 11];
            for rate in [64, 256, 900] {
                let subject = Subject::rows(dtype, codec(transform, rate), shape);
                let subject = subject.profiled(profile(transform, 2, 11));
                let name = format!("tc{transform}_{kind}_r{rate}_frames");
                all.push(free(&subject, &name, &smooth(dtype, shape)));
            }
            let shape = [3, 70, 9];
            let subject = Subject::rows(dtype, codec(transform, 300), shape);
            let subject = subject.profiled(profile(transform, 3, 9));
            let subject = subject.turned(Pairing::Half, frequencies(4), 1_000_000);
            all.push(free(
                &subject,
                &format!("tc{transform}_{kind}_turned"),
                &smooth(dtype, shape),
            ));
        }
    }
    let shape = [1, 40, 64];
    let mut entry = Entry::new(0, 1, 1, 1, 64);
    entry.shifts = vec![8; 64];
    let subject = Subject::rows(Dtype::F32, codec(1, 1024), shape);
    let subject = subject.profiled(made([7; 32], &[entry], &[]));
    all.push(free(&subject, "tc1_shifts", &smooth(Dtype::F32, shape)));
    all
}

fn refused() -> Vec<Vector> {
    let shape = [2, 33, 4];
    let file = profile(1, 2, 4);
    let plain = Subject::rows(Dtype::F16, codec(1, 1024), shape);
    let subject = plain.clone().profiled(file.clone());
    let mut scratch = Scratch::with_path("reference").unwrap();
    let good = subject
        .coding()
        .encode(&smooth(Dtype::F16, shape), &mut scratch);
    let good = good.unwrap();
    let step = |name: &str, step: i16| {
        let mut bytes = good.clone();
        bytes[..2].copy_from_slice(&step.to_le_bytes());
        subject.not_decoded(name, &bytes, 904)
    };
    let with = |name: &str, file: Vec<u8>| {
        plain
            .clone()
            .profiled(file)
            .not_decoded(&format!("tc_profile_{name}"), &good, 909)
    };
    let changed = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = file.clone();
        change(&mut file);
        with(name, file)
    };
    // after 48 bytes two banks of 12, then two points of 8, then the first bank: 4 means, 4 shifts
    let (banks, points, first) = (48, 72, 88);
    vec![
        plain.not_decoded("tc_profile_missing", &good, 908),
        step("tc1_step_too_large", 4065),
        with("of_another_transform", profile(2, 2, 4)),
        with("of_other_heads", profile(1, 1, 4)),
        with("of_another_dim", profile(1, 2, 6)),
        changed("magic", &|file| file[0] = b'X'),
        changed("version", &|file| file[8] = 2),
        changed("no_banks", &|file| file[10] = 0),
        changed("banks_over", &|file| file[11] = 0x10),
        changed("points_over", &|file| file[12] = 65),
        changed("reserved", &|file| file[14] = 1),
        changed("order", &|file| file[banks] = 1),
        changed("role", &|file| file[banks + 12 + 4] = 4),
        changed("transform", &|file| file[banks + 12 + 5] = 3),
        changed("heads_over", &|file| file[banks + 12 + 7] = 0xff),
        changed("dim_over", &|file| file[banks + 12 + 9] = 0xff),
        changed("entry_reserved", &|file| file[banks + 10] = 1),
        changed("rate_under", &|file| file[points + 4..points + 6].fill(0)),
        changed("points_order", &|file| {
            file[points + 12..points + 16].copy_from_slice(&[16, 0, 16, 0]);
        }),
        changed("points_promise", &|file| {
            file[points + 8..points + 12].fill(0xff)
        }),
        changed("mean_infinite", &|file| {
            file[first + 2..first + 4].copy_from_slice(&[0x80, 0x7f])
        }),
        changed("shift_over", &|file| file[first + 16] = 9),
        changed("weight_over", &|file| file[first + 20] = 0x80),
        changed("short", &|file| file.truncate(file.len() - 1)),
        changed("long", &|file| file.push(0)),
    ]
}

pub(super) fn vectors() -> Vec<Vector> {
    [accepted(), refused()].concat()
}
