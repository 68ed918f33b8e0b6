//! The parsers of a header on every input up to a size: what is accepted is what a grammar written here makes, and
//! nothing else. A model checker for Rust (Kani) would go further; its tool chain is no crate and was not had.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "a test that meets what it does not expect fails"
)]

use std::collections::BTreeSet;

use kvcap::{Error, Limits, Untrusted, check_cbor};
use kvcap_testvectors::fixture;

/// Every item of the CBOR profile (capsule-v1 §5.1) of each length up to `most`, made by its rules.
struct Grammar(Vec<Vec<Vec<u8>>>);

impl Grammar {
    fn of(most: usize) -> Self {
        let mut made = Self(vec![Vec::new()]);
        for len in 1..=most {
            let items = made.items(len);
            made.0.push(items);
        }
        made
    }

    /// The items of a length, from those that are shorter.
    fn items(&self, len: usize) -> Vec<Vec<u8>> {
        let mut items = Vec::new();
        // numbers: the shortest head alone
        for major in [0x00, 0x20] {
            items.extend(heads(major, len));
        }
        if len == 1 {
            items.extend([vec![0xF4], vec![0xF5]]);
        }
        // strings, of a head and as many bytes as it says
        for head in (1..=len).flat_map(|head| heads(0x40, head).map(move |bytes| (head, bytes))) {
            let (head_len, head) = head;
            if argument(&head) != len - head_len {
                continue;
            }
            for content in all(len - head_len) {
                items.push([&head[..], &content].concat());
                if utf8(&content) {
                    let mut text = head.clone();
                    text[0] += 0x20;
                    items.push([text, content].concat());
                }
            }
        }
        items.extend(self.containers(len));
        items
    }

    /// Arrays and maps of a length. They have short heads here, since each element is a byte at least.
    fn containers(&self, len: usize) -> Vec<Vec<u8>> {
        let mut items = Vec::new();
        for count in 0..len.min(24) {
            let head = u8::try_from(count).unwrap();
            for elements in self.rows(count, len - 1) {
                items.push([vec![0x80 | head], elements.concat()].concat());
            }
            for elements in self.rows(2 * count, len - 1) {
                let keys: Vec<&Vec<u8>> = elements.iter().step_by(2).collect();
                let named = keys.iter().all(|key| matches!(key[0] >> 5, 0 | 1 | 3));
                if named && keys.windows(2).all(|pair| pair[0] < pair[1]) {
                    items.push([vec![0xA0 | head], elements.concat()].concat());
                }
            }
        }
        items
    }

    /// Rows of `count` items that are `len` bytes together.
    fn rows(&self, count: usize, len: usize) -> Vec<Vec<Vec<u8>>> {
        if count == 0 {
            return if len == 0 {
                vec![Vec::new()]
            } else {
                Vec::new()
            };
        }
        let mut rows = Vec::new();
        for first in 1..=len.min(self.0.len() - 1) {
            for rest in self.rows(count - 1, len - first) {
                for item in &self.0[first] {
                    rows.push([vec![item.clone()], rest.clone()].concat());
                }
            }
        }
        rows
    }
}

/// The heads of a major type that are `len` bytes: the numbers that need as many.
fn heads(major: u8, len: usize) -> impl Iterator<Item = Vec<u8>> {
    let numbers = match len {
        1 => 0..24_u32,
        2 => 24..256,
        3 => 256..65_536,
        _ => 0..0, // five bytes and nine: longer than what is made here
    };
    numbers.map(move |number| match len {
        1 => vec![major | u8::try_from(number).unwrap()],
        2 => vec![major | 24, u8::try_from(number).unwrap()],
        _ => [
            vec![major | 25],
            u16::try_from(number).unwrap().to_be_bytes().to_vec(),
        ]
        .concat(),
    })
}

fn argument(head: &[u8]) -> usize {
    match head {
        [first] => usize::from(first & 31),
        [_, rest @ ..] => rest.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)),
        [] => 0,
    }
}

/// Every string of bytes of a length.
fn all(len: usize) -> Vec<Vec<u8>> {
    (0..len).fold(vec![Vec::new()], |short, _| {
        let longer = |bytes: &Vec<u8>| {
            let bytes = bytes.clone();
            (0..=255).map(move |last| [&bytes[..], &[last]].concat())
        };
        short.iter().flat_map(longer).collect()
    })
}

/// RFC 3629 by its table, of up to two bytes: all that texts have here.
fn utf8(bytes: &[u8]) -> bool {
    match *bytes {
        [] => true,
        [one] => one < 0x80,
        [first, second] => {
            (first < 0x80 && second < 0x80)
                || ((0xC2..=0xDF).contains(&first) && (0x80..=0xBF).contains(&second))
        }
        _ => false,
    }
}

/// 16,843,008 inputs.
#[test]
fn every_cbor_of_three_bytes_is_judged_as_the_grammar_says() {
    let grammar = Grammar::of(3);
    let mut accepted = 0;
    for len in 1..=3_usize {
        let lawful: BTreeSet<&Vec<u8>> = grammar.0[len].iter().collect();
        assert_eq!(lawful.len(), grammar.0[len].len(), "one item, one form");
        let mut bytes = vec![0; len];
        let mut found = 0;
        for number in 0..1_u32 << (8 * len) {
            bytes.copy_from_slice(&number.to_be_bytes()[4 - len..]);
            if check_cbor(&bytes).is_ok() {
                found += 1;
                assert!(lawful.contains(&bytes), "{bytes:02X?}");
            }
        }
        assert_eq!(found, lawful.len(), "of {len} bytes");
        accepted += found;
    }
    println!("{accepted} of 16,843,008 are items");
}

/// Bytes at which the rules of heads, texts and containers turn.
const TURNS: [u8; 20] = [
    0x00, 0x01, 0x17, 0x18, 0x19, 0x1C, 0x20, 0x40, 0x41, 0x60, 0x61, 0x62, 0x80, 0x81, 0x82, 0xA0,
    0xA1, 0xA2, 0xC2, 0xF5,
];

/// 20⁵ inputs, in which maps and arrays lie in one another.
#[test]
fn every_cbor_of_five_turning_bytes_is_judged_as_the_grammar_says() {
    let lawful = turning(5);
    let mut bytes = [0; 5];
    let mut found = 0;
    for number in 0..TURNS.len().pow(5) {
        let mut rest = number;
        for byte in &mut bytes {
            *byte = TURNS[rest % TURNS.len()];
            rest /= TURNS.len();
        }
        if check_cbor(&bytes).is_ok() {
            found += 1;
            assert!(lawful.contains(&bytes[..]), "{bytes:02X?}");
        }
    }
    assert!(found > 1000, "{found}");
    assert_eq!(found, lawful.len());
}

/// The items of that length that have turning bytes alone: of more than three bytes, arrays and maps, since no turning
/// byte is the head of a longer string or number.
fn turning(len: usize) -> BTreeSet<Vec<u8>> {
    let mut grammar = Grammar(vec![Vec::new()]);
    for len in 1..=len {
        let mut items = if len <= 3 {
            grammar.items(len)
        } else {
            grammar.containers(len)
        };
        items.retain(|item| item.iter().all(|byte| TURNS.contains(byte)));
        grammar.0.push(items);
    }
    grammar.0.pop().unwrap().into_iter().collect()
}

/// The code that CAP-F-1 … CAP-F-3 give a prologue, by the page's words; `None` for one that they accept.
fn by_the_page(prologue: &[u8; 64]) -> Option<u16> {
    let number = |from: usize, len: usize| {
        let bytes = prologue[from..from + len].iter().rev();
        bytes.fold(0_u64, |n, byte| n << 8 | u64::from(*byte))
    };
    if prologue[..8] != [0x89, 0x4B, 0x56, 0x43, 0x0D, 0x0A, 0x1A, 0x0A] {
        return Some(102);
    }
    if number(8, 2) != 1 {
        return Some(103);
    }
    if number(10, 2) != 0 || prologue[32..].iter().any(|byte| *byte != 0) {
        return Some(104);
    }
    let (envelope, tables, body) = (number(12, 4), number(16, 8), number(24, 8));
    let in_limits = (1..=1 << 20).contains(&envelope) && tables % 48 == 0 && tables <= 64 << 20;
    let align = |at: u64| at.div_ceil(4096) * 4096;
    let fits = in_limits
        && align(align(64 + envelope) + tables)
            .checked_add(body)
            .is_some();
    (!fits).then_some(105)
}

/// Every change of two bytes beside each other, and of any two to the values at which numbers turn: 4 million prologues.
#[test]
fn every_prologue_with_two_changed_bytes_is_judged_by_the_page() {
    let file = fixture::base().file;
    let lawful: [u8; 64] = *file.first_chunk().unwrap();
    let mut codes = BTreeSet::new();
    let mut check = |prologue: &[u8; 64]| {
        let read = Untrusted::read_at(&prologue[..], &Limits::default());
        // where the prologue passes, the file ends before its envelope
        let code = read.as_ref().map_err(Error::code).err().unwrap().number();
        let expected = by_the_page(prologue).unwrap_or(106);
        assert_eq!(code, expected, "{prologue:02X?}");
        codes.insert(code);
    };
    for at in 0..63 {
        for both in 0..=u16::MAX {
            let mut prologue = lawful;
            prologue[at..at + 2].copy_from_slice(&both.to_be_bytes());
            check(&prologue);
        }
    }
    let values = [0x00, 0x01, 0x2F, 0x30, 0x7F, 0x80, 0xFE, 0xFF];
    for (one, other) in (0..64).flat_map(|one| (0..one).map(move |other| (one, other))) {
        for (a, b) in values.iter().flat_map(|a| values.map(|b| (*a, b))) {
            let mut prologue = lawful;
            (prologue[one], prologue[other]) = (a, b);
            check(&prologue);
        }
    }
    assert_eq!(codes, BTreeSet::from([102, 103, 104, 105, 106]));
}
