//! A chunk that opens under two keys: AES-GCM does not commit to its key, so whoever knows both can
//! choose a block of ciphertext for which one tag is right twice (invisible salamanders). The
//! commitment of capsule-v1 §9.2 is what refuses it.

use aes_gcm::aes::{
    Aes256,
    cipher::{BlockCipherEncrypt as _, KeyInit as _},
};
use ciborium::Value;
use kvcap::{SectionKind, Suite};

use crate::{
    case::{Made, keys},
    cases,
    fixture::{self, Capsule, OTHER_WRAP},
    hex::hex,
    parts::Parts,
    raw::{edit_list, int},
    schedule::{Schedule, context_input, wrap, wrap_key_id},
};

/// The content key that the second recipient is given.
const OTHER_CONTENT: [u8; 32] = [0x77; 32];
/// The stream of one whole chunk whose ciphertext is chosen.
const STREAM: usize = 4;

/// A product in GHASH's field: the first bit of a block is the coefficient of 1.
fn product(x: u128, y: u128) -> u128 {
    let (mut sum, mut v) = (0, y);
    for bit in (0..128).rev() {
        sum ^= if x >> bit & 1 == 1 { v } else { 0 };
        v = v >> 1 ^ if v & 1 == 1 { 0xE1 << 120 } else { 0 };
    }
    sum
}

/// x^(2¹²⁸ − 2).
fn inverse(x: u128) -> u128 {
    let (mut square, mut all) = (x, 1 << 127);
    for _ in 1..128 {
        square = product(square, square);
        all = product(all, square);
    }
    all
}

fn blocks(bytes: &[u8]) -> impl Iterator<Item = u128> {
    bytes.chunks(16).map(|part| {
        let mut block = [0; 16];
        block[..part.len()].copy_from_slice(part);
        u128::from_be_bytes(block)
    })
}

/// What a key makes of the chunk: its tag, but for the chosen last block, and that block's factor.
fn without_last(schedule: &Schedule, text: &[u8]) -> (u128, u128) {
    let (key, _) = schedule.stream(STREAM);
    let (nonce, aad) = schedule.chunk(STREAM, 0, true, text.len());
    let encrypt = |block: [u8; 16]| {
        let mut block = block.into();
        Aes256::new(&key.into()).encrypt_block(&mut block);
        u128::from_be_bytes(block.into())
    };
    let h = encrypt([0; 16]);
    let lengths = ((aad.len() as u128 * 8) << 64) | (text.len() as u128 * 8);
    let hash = blocks(&aad)
        .chain(blocks(text))
        .chain([lengths])
        .fold(0, |sum, block| product(sum ^ block, h));
    let counter = [&nonce[..], &[0, 0, 0, 1]].concat();
    (hash ^ encrypt(counter.try_into().unwrap()), product(h, h))
}

fn salamander() -> Capsule {
    let mut context = fixture::context();
    context.suite = Suite::Aes256Gcm;
    context.streams.push(fixture::section(
        SectionKind::History,
        fixture::CHUNK as usize,
    ));
    let mut parts = Parts::of(&fixture::seal_context("salamander", context));
    let salt = parts.payload[crate::raw::find(&parts.payload, &keys([4, 1]))][2..].to_vec();
    let input = context_input(&parts.header, &parts.payload);
    let other = Schedule::new(2, &OTHER_CONTENT, &salt, &input);
    let own = parts.schedule();

    let mut text = fixture::noise("salamander", fixture::CHUNK as usize);
    let at = text.len() - 16;
    text[at..].fill(0);
    let ((first, h1), (second, h2)) = (without_last(&own, &text), without_last(&other, &text));
    let block = product(first ^ second, inverse(h1 ^ h2));
    text[at..].copy_from_slice(&block.to_be_bytes());

    let plain = |schedule: &Schedule| -> Vec<u8> {
        let (stream, _) = schedule.seal(STREAM, 0, true, &vec![0; text.len()]);
        stream.iter().zip(&text).map(|(x, y)| x ^ y).collect()
    };
    // both keys open it, to different bytes
    let sealed = own.seal(STREAM, 0, true, &plain(&own));
    assert_eq!(sealed.0, text);
    assert_eq!(sealed, other.seal(STREAM, 0, true, &plain(&other)));
    parts.plain[STREAM] = plain(&own);
    parts.reseal();

    let nonce = [5; 24];
    let wrapped = wrap(&OTHER_WRAP, &nonce, &parts.cti(), &OTHER_CONTENT);
    let bytes = |part: &[u8]| Value::Bytes(part.to_vec());
    let recipient = [
        int(1),
        bytes(&wrap_key_id(&OTHER_WRAP)),
        bytes(&nonce),
        bytes(&wrapped),
    ];
    edit_list(&mut parts.payload, &keys([4, 3]), |all| {
        all.push(Value::Array(recipient.to_vec()));
    });
    parts.sign();
    Capsule {
        file: parts.file(),
        plain: parts.plain,
    }
}

cases! {
    /// a chunk that opens under two content keys: who has the committed one reads it
    salamander_committed_key: A 0 Accept ["CAP-A-1"] = Made::of(salamander());
    /// a chunk that opens under two content keys: who is given the other one reads nothing
    salamander_two_keys: R 804 Open ["CAP-A-1"] = Made::of(salamander())
        .when(|context| context.wrapping_key = Some(hex(&OTHER_WRAP)));
}
