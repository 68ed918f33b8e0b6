//! Random geometries, sealed, verified, checked and opened again: identical, whole and in parts.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it does not expect fails"
)]

use std::sync::Mutex;

use kvcap::{
    BankEntry, Context, Draft, Expected, Limits, Opened, Policy, Role, RowsEntry, Sealer,
    SectionKind, SigningKey, Stream, Suite, Terms, Trust, TrustedKey, Unlocked, Untrusted, Workers,
    WrappingKey,
};
use kvcap_codecs::{BankShape, Dtype};
use kvcap_testvectors::fixture;
use proptest::{collection::vec, prelude::*, sample::select};

/// One layer's banks: attention, latent attention, recurrent.
fn layer(tokens: u64) -> impl Strategy<Value = Vec<BankEntry>> {
    let chunk = prop_oneof![Just(4096_u64), 4096..20_000_u64];
    let dtype = select(Dtype::plain().collect::<Vec<_>>());
    let parts = (
        0..3_u8,
        1..4_u64,
        1..3_u64,
        dtype,
        chunk,
        0..=tokens.min(20),
    );
    parts.prop_map(move |(kind, heads, wide, dtype, chunk_len, window)| {
        let bank = |role, dim: u64| BankEntry {
            chunk_len,
            window: if window < tokens { window } else { 0 },
            ..fixture::rows(role, 0, dtype, heads, tokens, 32 * dim)
        };
        match kind {
            0 => vec![bank(Role::Key, wide), bank(Role::Value, 1)],
            1 => vec![bank(Role::Latent, wide), bank(Role::RopeKey, 1)],
            _ => vec![
                fixture::whole(Role::Recurrent, 0, 0, dtype, &[heads, wide, 32]),
                fixture::whole(Role::Convolution, 0, 1, dtype, &[32]),
            ],
        }
    })
}

/// A context of random layers and sections that fit each other.
fn context() -> impl Strategy<Value = Context> {
    let sections = (0..6000_usize, 0..3_usize, 0..9000_usize);
    let layers = (1..400_u64).prop_flat_map(|tokens| (Just(tokens), vec(layer(tokens), 1..4)));
    (layers, 0..1000_u64, sections, any::<bool>()).prop_map(
        |((tokens, layers), start, (history, others, len), aes)| {
            let mut context = fixture::context();
            context.positions = start..start + tokens;
            context.layers = u32::try_from(layers.len()).unwrap();
            context.rope.clear();
            if aes {
                context.suite = Suite::Aes256Gcm;
            }
            context.streams = (0..)
                .zip(layers)
                .flat_map(|(layer, banks)| banks.into_iter().map(move |bank| (layer, bank)))
                .map(|(layer, mut bank)| {
                    bank.layer = layer;
                    if let BankShape::Tokens { tokens, .. } = &mut bank.shape {
                        if bank.window != 0 {
                            *tokens = bank.window;
                        }
                        bank.rows =
                            RowsEntry::From(start + (context.positions.end - start) - *tokens);
                    }
                    Stream::Bank(bank)
                })
                .collect();
            let mut section = |kind, len| context.streams.push(fixture::section(kind, len));
            section(SectionKind::Prefix, 32);
            section(SectionKind::History, history);
            for n in 0..others {
                section(SectionKind::Other(format!("part {n}")), len);
            }
            context
        },
    )
}

fn terms() -> impl Strategy<Value = Terms> {
    let name = "[a-zA-Zäöü0-9./:-]{1,40}";
    let times = (0..4_000_000_000_u64, 1..2_592_000_u64, 0..100_u64);
    let names = (
        name,
        proptest::option::of(name),
        name,
        proptest::option::of(name),
    );
    (names, times, any::<Option<u64>>(), any::<bool>()).prop_map(
        |((issuer, subject, audience, tenant), (issued_at, life, late), sequence, single_use)| {
            let expires = issued_at + life;
            let mut terms = Terms::new(&issuer, &audience, issued_at, expires);
            terms.subject = subject;
            terms.not_before = issued_at + late.min(life - 1);
            terms.scope = "kv:restore kv:inspect".to_owned();
            terms.tenant = tenant;
            terms.sequence = sequence;
            terms.single_use = single_use;
            terms.renew_until = expires.saturating_add(sequence.unwrap_or(0));
            terms
        },
    )
}

fn seal(terms: &Terms, context: &Context, plain: &[Vec<u8>], piece: usize) -> Vec<u8> {
    let signer = SigningKey::from_seed(&fixture::SIGN_SEED);
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let draft = Draft::new(terms.clone(), context.clone());
    let sealer = Sealer::new(Mutex::new(Vec::new()), draft, &signer, &[&key]).unwrap();
    for bytes in plain {
        for piece in bytes.chunks(piece) {
            sealer.write(piece).unwrap();
        }
        sealer.end_stream().unwrap();
    }
    sealer.finish().unwrap().0.into_inner().unwrap()
}

fn open<'a>(terms: &Terms, file: &'a [u8]) -> Opened<&'a [u8]> {
    let trust = Trust::from(TrustedKey::new(
        SigningKey::from_seed(&fixture::SIGN_SEED).public(),
        &terms.issuer,
    ));
    let now = terms.expires - 1;
    let mut policy = Policy::new(&trust, now, &terms.audience, Expected::danger_any_model());
    policy.subject.clone_from(&terms.subject);
    policy.tenant.clone_from(&terms.tenant);
    let mut reader = file;
    let untrusted = Untrusted::read(&mut reader, &Limits::default()).unwrap();
    assert_eq!(untrusted.claims().terms, *terms);
    assert_eq!(untrusted.file_len(), file.len() as u64);
    let verified = untrusted.verify(&policy).unwrap();
    verified
        .check_body(&mut reader, Workers::new(2), &mut |_| {})
        .unwrap();
    verified
        .open(file, &WrappingKey::from_bytes(fixture::WRAP_KEY))
        .map(Unlocked::danger_unrecorded)
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sealed_comes_back(
        context in context(),
        terms in terms(),
        piece in 1..30_000_usize,
        cuts in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 8),
    ) {
        let plain = fixture::contents(&context);
        let file = seal(&terms, &context, &plain, piece);
        let opened = open(&terms, &file);
        prop_assert_eq!(&opened.manifest().context, &context);
        for (index, bytes) in plain.iter().enumerate() {
            prop_assert_eq!(&opened.stream_bytes(index).unwrap(), bytes);
            let mut reader = opened.stream(index).unwrap();
            for (a, b) in &cuts {
                let (a, b) = (a.index(bytes.len() + 1), b.index(bytes.len() + 1));
                let (start, end) = (a.min(b), a.max(b));
                let mut part = Vec::new();
                reader.read(start as u64..end as u64, &mut part).unwrap();
                prop_assert_eq!(&part, &bytes[start..end]);
            }
        }
    }
}
