//! Prologue, padding and lengths (capsule-v1 §2).

use crate::{
    case::{Made, mutated, unsigned},
    cases, fixture,
    parts::{Parts, lengths, regions},
};

fn set(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn cut(to: impl FnOnce(&[u8]) -> usize) -> Made {
    mutated(|file| file.truncate(to(file)))
}

fn envelope_len(len: u32) -> Made {
    mutated(|file| set(file, 12, &len.to_le_bytes()))
}

/// The signature's last byte is zero, so that leaving it out leaves the padding as it must be.
fn short_envelope() -> Made {
    let mut parts = Parts::of(&fixture::base());
    let ends_in_zero = (0_u64..1000).any(|sequence| {
        let path = crate::case::keys([15, -70_002]);
        let number = crate::raw::encode(&crate::raw::int(sequence));
        crate::raw::put(&mut parts.header, &path, &number);
        parts.sign();
        parts.signature[63] == 0
    });
    assert!(ends_in_zero, "one in 16 does");
    let mut file = parts.file();
    let len = lengths(&file).0 as u32 - 1;
    set(&mut file, 12, &len.to_le_bytes());
    Made::of(fixture::Capsule {
        file,
        plain: parts.plain,
    })
}

/// A chunk that the content key's holder made, after the last one.
fn trailing_chunk() -> Made {
    unsigned(|parts| {
        let (text, _) = parts.schedule().seal(3, 1, true, &[7; 32]);
        parts.body.push(text);
    })
    .when(|_| {})
}

cases! {
    /// 0 bytes
    empty_file: M 101 Header ["CAP-F-1"] = cut(|_| 0);
    /// 63 of 64 bytes
    prologue_short: M 101 Header ["CAP-F-1"] = cut(|_| 63);
    /// first byte changed
    magic_wrong: M 102 Header ["CAP-F-2"] = mutated(|file| file[0] ^= 1);
    /// every 0D 0A became 0A in a text transfer
    magic_crlf_mangled: M 102 Header ["CAP-F-2"] = mutated(|file| {
        let mut last = 0;
        *file = std::mem::take(file)
            .into_iter()
            .fold(Vec::new(), |mut out, byte| {
                if (last, byte) == (b'\r', b'\n') {
                    out.pop();
                }
                last = byte;
                out.push(byte);
                out
            });
    });
    /// 89 became EF BF BD in a UTF-8 transfer
    magic_utf8_mangled: M 102 Header ["CAP-F-2"] = mutated(|file| {
        file.splice(0..1, [0xEF, 0xBF, 0xBD]);
    });
    /// major version 0
    version_zero: M 103 Header ["CAP-F-2"] = mutated(|file| set(file, 8, &[0, 0]));
    /// major version 2
    version_future: M 103 Header ["CAP-F-2"] = mutated(|file| set(file, 8, &[2, 0]));
    /// a bit of the reserved u16 is set
    reserved_nonzero: M 104 Header ["CAP-F-2"] = mutated(|file| file[10] = 1);
    /// the last reserved byte is not zero
    reserved_tail_nonzero: M 104 Header ["CAP-F-2"] = mutated(|file| file[63] = 0x80);
    /// envelope_len 0
    envelope_len_zero: M 105 Header ["CAP-F-3"] = envelope_len(0);
    /// envelope_len is the limit + 1; nothing of that size may be allocated
    envelope_len_over_limit: M 105 Header ["CAP-F-3"] = envelope_len((1 << 20) + 1);
    /// envelope_len FFFFFFFF
    envelope_len_u32max: M 105 Header ["CAP-F-3"] = envelope_len(u32::MAX);
    /// envelope_len one less; the byte left out is zero, so that the padding is right
    envelope_len_short: M 201 Header ["CAP-E-6"] = short_envelope();
    /// envelope_len one more: a byte of padding belongs to the envelope
    envelope_len_long: M 206 Header ["CAP-E-6"] = mutated(|file| {
        let len = lengths(file).0 as u32 + 1;
        set(file, 12, &len.to_le_bytes());
    });
    /// tables_len is not a multiple of 48
    tables_len_not_rows: M 105 Header ["CAP-F-3"] = mutated(|file| file[16] += 1);
    /// tables_len is the limit + 48
    tables_len_over_limit: M 105 Header ["CAP-F-3"] = mutated(|file| {
        let over = (64_u64 << 20).next_multiple_of(48) + 48;
        set(file, 16, &over.to_le_bytes());
    });
    /// body_len FFFFFFFFFFFFFFFF: the end of the file overflows
    body_len_u64max: M 105 Header ["CAP-F-3"] = mutated(|file| set(file, 24, &[0xFF; 8]));
    /// body_len is not the sum of the signed lengths
    body_len_mismatch: M 507 Verify ["CAP-M-2"] = mutated(|file| {
        let len = lengths(file).2 as u64 + 1;
        set(file, 24, &len.to_le_bytes());
        file.push(0);
    });
    /// tables_len is not the signed one
    tables_len_mismatch: M 507 Verify ["CAP-M-2"] = mutated(|file| {
        let len = lengths(file).1 as u64 + 48;
        set(file, 16, &len.to_le_bytes());
    });
    /// a byte of the padding after the envelope is not zero
    header_pad_nonzero: M 107 Header ["CAP-F-5"] = mutated(|file| {
        let last = regions(file).0 - 1;
        file[last] = 1;
    });
    /// a byte of the padding after the tables is not zero
    tables_pad_nonzero: M 107 Body ["CAP-F-5"] = mutated(|file| {
        let last = regions(file).1 - 1;
        file[last] = 1;
    });
    /// the file ends inside the envelope
    eof_inside_envelope: M 106 Header ["CAP-F-4"] = cut(|file| 64 + lengths(file).0 / 2);
    /// the file ends inside the padding after the envelope
    eof_inside_padding: M 106 Header ["CAP-F-4"] = cut(|file| regions(file).0 - 1);
    /// a byte follows the body
    trailing_byte: M 108 Body ["CAP-F-6"] = mutated(|file| file.push(0));
    /// an authentic chunk follows the last one
    trailing_valid_chunk: M 108 Body ["CAP-F-6"] = {
        let made = trailing_chunk();
        // the prologue still states the signed length
        mutated(|file| *file = [&file[..], &made.file[made.file.len() - 32..]].concat())
    };
}
