//! Sessions of growing states as chains: whatever is sealed in parts opens as if sealed at once.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]

use std::{
    fs::{self, File},
    io::{Read, Seek},
    path::Path,
    sync::Mutex,
};

use kvcap::{
    Chain, Code, Error, Expected, Limits, Members, OpenedChain, Policy, Result, SigningKey, Suite,
    Terms, Trust, TrustedKey, Untrusted, Workers, WrappingKey,
};
use kvcap_codecs::{Codec, Padding, Preset};
use kvcap_models::{Geometry, LayerGeometry, ModelProfile};
use kvcap_states::{
    Capture, Continued, Encoding, Hints, Lineage, Prompt, RuntimeKind, SealRequest, Selection,
    check_quality, detect, extract, open_state, parse, seal_state, truncate_state,
};
use kvcap_testkit::{fixture, model, signer, wrapping};
use proptest::prelude::*;

const NOW: u64 = 1_800_000_000;

struct World {
    profile: ModelProfile,
    signer: SigningKey,
    wrap: WrappingKey,
}

fn read_all(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn terms() -> Terms {
    let mut terms = kvcap_testkit::terms(NOW);
    terms.subject = Some("ana".to_owned());
    terms
}

impl World {
    fn new() -> Self {
        Self::of(&fixture("model"))
    }

    fn of(path: &Path) -> Self {
        Self {
            profile: model(path).unwrap(),
            signer: signer(),
            wrap: wrapping(),
        }
    }

    fn seal(
        &self,
        kind: RuntimeKind,
        file: &[u8],
        ids: &[u32],
        encoding: Encoding,
        parent: Option<&OpenedChain<&[u8]>>,
    ) -> Result<Vec<u8>> {
        let state = parse(kind, &file, Hints::Model(&self.profile.geometry))?;
        let continued = parent
            .map(|parent| Continued::check(&state, &file, parent, Workers::new(2), &mut |_| {}))
            .transpose()?;
        let prompt = match &state.tokens {
            Some(_) => Prompt::FromState,
            None => Prompt::Tokens(ids.to_vec()),
        };
        let capture = Capture {
            lineage: Lineage {
                continued,
                base: false,
            },
            ..kvcap_testkit::capture(Suite::ChaCha20Poly1305, prompt)
        };
        let (out, _) = seal_state(
            Mutex::new(Vec::new()),
            SealRequest::new(&state, &file, &self.profile, capture, terms(), &self.signer)
                .to(&[&self.wrap])
                .encoding(encoding)
                .workers(Workers::new(2)),
            &mut |_| {},
        )?;
        Ok(out.into_inner().unwrap())
    }

    /// Opens capsules given from the root to the tip.
    fn open<'a>(&self, capsules: &'a [Vec<u8>]) -> Result<OpenedChain<&'a [u8]>> {
        let trust = Trust::from(TrustedKey::new(self.signer.public(), "tests"));
        let mut policy = Policy::new(&trust, NOW, "tests", Expected::danger_any_model());
        policy.subject = Some("ana".to_owned());
        let read = |bytes: &Vec<u8>| Untrusted::read_at(bytes, &Limits::default());
        let (tip, ancestors) = capsules.split_last().unwrap();
        let mut chain = Chain::new(read(tip)?.verify(&policy)?, tip.as_slice());
        for parent in ancestors.iter().rev() {
            chain = chain.extend(read(parent)?, parent.as_slice(), &policy)?;
        }
        chain.open(std::slice::from_ref(&self.wrap))?.release()
    }

    fn state(&self, capsules: &[Vec<u8>]) -> Vec<u8> {
        let out = tempfile::tempfile().unwrap();
        open_state(
            &self.open(capsules).unwrap(),
            &out,
            Workers::all(),
            &mut |_| {},
        )
        .unwrap();
        read_all(out)
    }

    /// The first `tokens` of a state.
    fn cut(&self, kind: RuntimeKind, file: &[u8], tokens: u64) -> Result<Vec<u8>> {
        let state = parse(kind, &file, Hints::Model(&self.profile.geometry))?;
        let out = tempfile::tempfile().unwrap();
        truncate_state(kind, &state, &file, tokens, &out, Workers::new(2))?;
        let cut = read_all(out);
        let parsed = parse(kind, &cut, Hints::Model(&self.profile.geometry))?;
        assert_eq!(parsed.positions, 0..tokens);
        assert_eq!(parsed.banks.len(), state.banks.len());
        let mut frames = (Vec::new(), Vec::new());
        for (short, long) in parsed.banks.iter().zip(&state.banks) {
            let long = long.rows(0, tokens).unwrap();
            assert_eq!(short.bank, long.bank);
            for index in 0..tokens.div_ceil(256) {
                short.read_frame(&cut, index, &mut frames.0).unwrap();
                long.read_frame(&file, index, &mut frames.1).unwrap();
                assert!(frames.0 == frames.1);
            }
        }
        Ok(cut)
    }

    /// A session saved after each of `ends` tokens, sealed as a chain.
    fn session(
        &self,
        kind: RuntimeKind,
        file: &[u8],
        ends: &[u64],
        encoding: Encoding,
    ) -> Vec<Vec<u8>> {
        let mut capsules: Vec<Vec<u8>> = Vec::new();
        for end in ends {
            let now = self.cut(kind, file, *end).unwrap();
            let parent = match capsules.is_empty() {
                true => None,
                false => Some(self.open(&capsules).unwrap()),
            };
            let capsule = self.seal(kind, &now, &ids(*end), encoding, parent.as_ref());
            capsules.push(capsule.unwrap());
        }
        capsules
    }
}

fn ids(count: u64) -> Vec<u32> {
    (0..u32::try_from(count).unwrap())
        .map(|n| n * 3 % 2000)
        .collect()
}

/// A Hugging Face cache of the fixtures' model, of this many tokens.
fn made(tokens: u64, seed: u64) -> Vec<u8> {
    let mut map = serde_json::Map::new();
    let len = 2 * tokens * 64 * 2;
    for (index, (layer, name)) in (0..6)
        .flat_map(|layer| [(layer, "keys"), (layer, "values")])
        .enumerate()
    {
        let start = u64::try_from(index).unwrap() * len;
        map.insert(
            format!("layers.{layer}.{name}"),
            serde_json::json!({"dtype": "F16", "shape": [1, 2, tokens, 64], "data_offsets": [start, start + len]}),
        );
    }
    map.insert(
        "__metadata__".to_owned(),
        serde_json::json!({"seq_len": tokens.to_string()}),
    );
    let mut header = serde_json::to_vec(&map).unwrap();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
    file.extend(header);
    let mut state = seed | 1;
    for _ in 0..12 * 2 * tokens * 64 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // finite: between -2 and 2
        let bits = u16::try_from(state >> 48).unwrap() & 0xBFFF;
        file.extend(bits.to_le_bytes());
    }
    file
}

fn refused<T>(result: Result<T>, code: Code) -> Error {
    let error = result.err().unwrap();
    assert_eq!(error.code(), code, "{error}");
    error
}

#[test]
fn a_chain_opens_as_if_sealed_at_once() {
    let world = World::new();
    let affine = |bits| Codec::Affine { bits, group: 64 };
    let lossy = Encoding {
        keys: Some(affine(8)),
        values: Some(affine(4)),
        ..Encoding::EXACT
    };
    let compressed = Encoding {
        compress: Some(Padding::Padme),
        ..Encoding::EXACT
    };
    let mut seen = 0;
    for entry in fs::read_dir(fixture("")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Ok(file) = fs::read(&path) else { continue };
        let Ok(kind) = detect(&file) else { continue };
        if parse(kind, &file, Hints::Model(&world.profile.geometry)).is_err() {
            continue;
        }
        for encoding in [Encoding::EXACT, compressed, lossy] {
            let chain = world.session(kind, &file, &[5, 6, 11, 16], encoding);
            let whole = world.cut(kind, &file, 16).unwrap();
            let direct = world.seal(kind, &whole, &ids(16), encoding, None).unwrap();
            let opened = world.state(&chain);
            assert!(opened == world.state(&[direct]), "{name}");
            if encoding != lossy {
                assert!(opened == whole, "{name}");
            } else {
                let opened = world.open(&chain).unwrap();
                let checked = check_quality(&opened, &whole).unwrap();
                assert!(checked == 0 || checked >= 4 * 12, "{name} {checked}");
            }
            // every ancestor is a rewind
            let early = world.state(&chain[..2]);
            if encoding != lossy {
                assert!(early == world.cut(kind, &file, 6).unwrap(), "{name}");
            }
        }
        seen += 1;
    }
    assert!(seen >= 8, "only {seen} fixtures");
}

#[test]
fn a_restored_lossy_state_and_the_original_both_go_on() {
    let world = World::new();
    let kind = RuntimeKind::HuggingFace;
    let file = made(40, 1);
    let encoding = Encoding {
        guard: None,
        ..Encoding::of(Preset::Q4)
    };
    let first = world.cut(kind, &file, 30).unwrap();
    let root = world.seal(kind, &first, &ids(30), encoding, None).unwrap();
    let parent = vec![root.clone()];
    let opened = world.open(&parent).unwrap();
    // not restored in between: the original rows
    world
        .seal(kind, &file, &ids(40), encoding, Some(&opened))
        .unwrap();
    // restored, and then ten tokens more
    let restored = world.state(&parent);
    let mut longer = file.clone();
    let (short, long) = (
        parse(kind, &restored, Hints::None).unwrap(),
        parse(kind, &file, Hints::None).unwrap(),
    );
    for (from, to) in short.banks.iter().zip(&long.banks) {
        for head in 0..2 {
            let at = |part: &kvcap_states::Region, rows: u64| {
                usize::try_from(part.offset + head * rows * 128).unwrap()
            };
            let (from, to) = (at(&from.parts[0], 30), at(&to.parts[0], 40));
            longer[to..to + 30 * 128].copy_from_slice(&restored[from..from + 30 * 128]);
        }
    }
    assert!(longer != file);
    let next = world
        .seal(kind, &longer, &ids(40), encoding, Some(&opened))
        .unwrap();
    let chain = [root, next];
    let back = world.cut(kind, &world.state(&chain), 30).unwrap();
    assert!(back == restored);
    // neither
    let error = refused(
        world.seal(kind, &made(40, 2), &ids(40), encoding, Some(&opened)),
        Code::LineageParentDigest,
    );
    assert!(error.place().unwrap().contains("layer 0 key"), "{error}");
}

#[test]
fn states_that_do_not_continue_are_refused() {
    let world = World::new();
    let kind = RuntimeKind::HuggingFace;
    let file = made(300, 3);
    let first = world.cut(kind, &file, 290).unwrap();
    let root = vec![
        world
            .seal(kind, &first, &ids(290), Encoding::EXACT, None)
            .unwrap(),
    ];
    let parent = world.open(&root).unwrap();
    let seal =
        |file: &[u8], ids: &[u32]| world.seal(kind, file, ids, Encoding::EXACT, Some(&parent));
    // one bit of the shared part, in the last row of the last head of the last bank
    let state = parse(kind, &file, Hints::None).unwrap();
    let part = state.banks.last().unwrap().parts[0];
    let row = usize::try_from(part.offset + (300 + 289) * 128).unwrap();
    let mut other = file.clone();
    other[row + 127] ^= 1;
    refused(seal(&other, &ids(300)), Code::LineageParentDigest);
    // the first new row is free
    other[row + 127] ^= 1;
    other[row + 128] ^= 1;
    seal(&other, &ids(300)).unwrap();
    // the same state, one that ends earlier, another prompt, no prompt
    refused(seal(&first, &ids(290)), Code::LineagePositions);
    let shorter = world.cut(kind, &file, 100).unwrap();
    refused(seal(&shorter, &ids(100)), Code::LineagePositions);
    let mut prompt = ids(300);
    prompt[289] += 1;
    refused(seal(&file, &prompt), Code::LineageBinding);
    prompt[289] -= 1;
    prompt[290] += 1;
    seal(&file, &prompt).unwrap();
}

#[test]
fn windows_and_recurrent_states_are_whole_in_every_increment() {
    // a rewind of them is refused by name, wherever the files come from
    for (name, why) in [
        ("mlx032_hybrid.safetensors", "recurrent state"),
        ("mlx032_rotating.safetensors", "sliding window"),
    ] {
        let file = fs::read(fixture(name)).unwrap();
        let kind = RuntimeKind::MlxLm;
        let state = parse(kind, &file, Hints::None).unwrap();
        let out = tempfile::tempfile().unwrap();
        let error = refused(
            truncate_state(kind, &state, &file, 1, &out, Workers::ONE),
            Code::BodyRange,
        );
        let named = error.what().contains(why) || error.what().contains("order of positions");
        assert!(named, "{name}: {error}");
        assert_eq!(read_all(out).len(), 0, "{name}");
    }
    // nine tokens of attention beside recurrent states; the first four of them, as rolled back
    let world = World {
        profile: ModelProfile {
            geometry: Geometry {
                layers: vec![LayerGeometry::Unknown; 3],
                ..Geometry::default()
            },
            ..World::new().profile
        },
        ..World::new()
    };
    let kind = RuntimeKind::MlxLm;
    let nine = fs::read(fixture("mlx032_hybrid.safetensors")).unwrap();
    let data = 8 + usize::try_from(u64::from_le_bytes(nine[..8].try_into().unwrap())).unwrap();
    let mut four = nine.clone();
    four[data..data + 4].copy_from_slice(&4_i32.to_le_bytes());
    *four.last_mut().unwrap() ^= 1; // a recurrent state goes on in all of its elements
    let exact = Encoding::EXACT;
    let mut chain = vec![world.seal(kind, &four, &ids(4), exact, None).unwrap()];
    let opened = world.open(&chain).unwrap();
    let state = parse(kind, &nine, Hints::None).unwrap();
    let continued = Continued::check(&state, &nine, &opened, Workers::ONE, &mut |_| {}).unwrap();
    assert!(continued.leaves_rows_out());
    let next = world
        .seal(kind, &nine, &ids(9), exact, Some(&opened))
        .unwrap();
    chain.push(next);
    let opened = world.open(&chain).unwrap();
    for (_, bank) in opened.tip().manifest().context.banks() {
        let parts = opened.parts(bank).unwrap().len();
        assert_eq!(parts, if bank.is_by_position() { 2 } else { 1 });
    }
    assert!(world.state(&chain) == nine);
    let selection = Selection {
        layers: None,
        positions: Some(2..6),
    };
    let out = tempfile::tempfile().unwrap();
    let error = refused(
        extract(&opened, &selection, &out, Workers::new(2), &mut |_| {}),
        Code::BodyRange,
    );
    assert!(error.what().contains("recurrent"), "{error}");
}

#[test]
fn an_increment_of_whole_banks_leaves_nothing_out() {
    let world = World::new();
    let kind = RuntimeKind::Raw;
    let file = made(4, 1);
    let root = [world
        .seal(kind, &file, &ids(4), Encoding::EXACT, None)
        .unwrap()];
    let opened = world.open(&root).unwrap();
    let state = parse(kind, &file, Hints::None).unwrap();
    let continued = Continued::check(&state, &file, &opened, Workers::ONE, &mut |_| {}).unwrap();
    assert!(!continued.leaves_rows_out());
}

#[test]
fn a_cut_of_a_chain_is_the_same_cut_of_the_whole() {
    let world = World::new();
    let kind = RuntimeKind::HuggingFace;
    let file = made(600, 4);
    let chain = world.session(kind, &file, &[250, 260, 516, 600], Encoding::EXACT);
    let direct = [world
        .seal(kind, &file, &ids(600), Encoding::EXACT, None)
        .unwrap()];
    let cut = |capsules: &[Vec<u8>], selection: &Selection| {
        let opened = world.open(capsules).unwrap();
        let before = opened.bytes_read();
        let out = tempfile::tempfile().unwrap();
        extract(&opened, selection, &out, Workers::new(2), &mut |_| {}).unwrap();
        (read_all(out), opened.bytes_read() - before)
    };
    for (layers, positions) in [
        (None, None),
        (Some(2..4), None),
        (None, Some(0..250)),
        (None, Some(249..251)),
        (Some(5..6), Some(255..517)),
        (Some(0..1), Some(599..600)),
    ] {
        let selection = Selection { layers, positions };
        let (part, read) = cut(&chain, &selection);
        let (whole, _) = cut(&direct, &selection);
        assert!(part == whole, "{selection:?}");
        if let Some(positions) = &selection.positions {
            let rows = positions.end - positions.start;
            let layers = selection.layers.as_ref().map_or(6, |layers| layers.len());
            // whole chunks of 256 KiB at most, and the tables' rows
            let most = u64::try_from(layers).unwrap() * 2 * (256 * (rows + 2 * 256) + 8 * 48);
            assert!(read <= most, "{selection:?}: {read} of {most}");
        }
    }
    let opened = world.open(&chain).unwrap();
    let out = tempfile::tempfile().unwrap();
    for positions in [0..601, 600..601] {
        let selection = Selection {
            layers: None,
            positions: Some(positions),
        };
        refused(
            extract(&opened, &selection, &out, Workers::new(2), &mut |_| {}),
            Code::BodyRange,
        );
    }
}

#[test]
fn groups_of_tokens_are_the_same_where_increments_begin_at_whole_groups() {
    let world = World::new();
    let kind = RuntimeKind::HuggingFace;
    let file = made(700, 8);
    let encoding = Encoding {
        guard: None,
        ..Encoding::of(Preset::Q4c)
    };
    let direct = world.seal(kind, &file, &ids(700), encoding, None).unwrap();
    let direct = world.state(&[direct]);
    for (ends, same) in [
        (&[256, 512, 700][..], true),
        (&[320, 448, 700], true),
        (&[256, 300, 700], false),
        (&[100, 700], false),
    ] {
        let chain = world.session(kind, &file, ends, encoding);
        assert_eq!(world.state(&chain) == direct, same, "{ends:?}");
    }
}

#[test]
fn twenty_turns_take_little_more_than_one_capsule() {
    let world = World::new();
    let kind = RuntimeKind::HuggingFace;
    let file = made(1400, 5);
    let ends: Vec<u64> = (1..=20).map(|turn| turn * 70).collect();
    let chain = world.session(kind, &file, &ends, Encoding::EXACT);
    let direct = world
        .seal(kind, &file, &ids(1400), Encoding::EXACT, None)
        .unwrap();
    let total: usize = chain.iter().map(Vec::len).sum();
    assert!(
        total * 10 < direct.len() * 11,
        "{total} of {}",
        direct.len()
    );
    assert!(world.state(&chain) == file);
    // turn 12, by its own capsules alone
    let turn = world.state(&chain[..12]);
    assert!(turn == world.cut(kind, &file, 840).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn however_a_session_is_divided(
        tokens in 2..400_u64,
        seed in any::<u64>(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
        encoding in 0..3_u8,
    ) {
        let world = World::new();
        let kind = RuntimeKind::HuggingFace;
        let file = made(tokens, seed);
        let size = usize::try_from(tokens - 1).unwrap();
        let mut ends: Vec<u64> =
            cuts.iter().map(|cut| u64::try_from(cut.index(size)).unwrap() + 1).collect();
        ends.push(tokens);
        ends.sort_unstable();
        ends.dedup();
        let encoding = match encoding {
            0 => Encoding::EXACT,
            1 => Encoding { compress: Some(Padding::Fine), ..Encoding::EXACT },
            _ => Encoding { guard: None, ..Encoding::of(Preset::Q8) },
        };
        let chain = world.session(kind, &file, &ends, encoding);
        let direct = world.seal(kind, &file, &ids(tokens), encoding, None).unwrap();
        prop_assert!(world.state(&chain) == world.state(&[direct]));
    }
}
