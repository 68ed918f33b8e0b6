//! Capsules that continue others: what makes a chain, and every way in which a chain is none.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect fails"
)]

mod compared;
mod sources;

use std::io::Cursor;

use kvcap::{
    Chain, Code, Context, Error, Expected, Limits, Members, Parent, Policy, PrefixValue,
    RecipientKind, Reissuer, Renewal, Rewrap, Role, RowsEntry, SectionKind, SigningKey, Stream,
    Terms, Trust, TrustedKey, Untrusted, WrappingKey, binding::Digest,
};
use kvcap_codecs::{BankShape, Dtype};
use kvcap_testvectors::fixture::{self, Capsule};

const STEP: u64 = 10;

/// Token ids of a session; `branch` differs after the first step.
fn ids(turns: u64, branch: u32) -> Vec<u32> {
    let count = u32::try_from(STEP * turns).unwrap();
    (0..count)
        .map(|n| n + if n < 10 { 0 } else { branch })
        .collect()
}

/// The context of turn `turn`, from 0.
fn context(turn: u64, branch: u32) -> Context {
    let mut context = fixture::context();
    let (start, end) = (STEP * turn, STEP * (turn + 1));
    context.positions = start..end;
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY)
        .prefix_key()
        .unwrap()
        .unwrap();
    context.prefix = PrefixValue::of(&ids(turn + 1, branch)).keyed(&key);
    for stream in &mut context.streams {
        match stream {
            Stream::Bank(bank) => {
                bank.rows = RowsEntry::From(start);
                if let BankShape::Tokens { tokens, .. } = &mut bank.shape {
                    *tokens = STEP;
                }
            }
            Stream::Section(section) if section.kind == SectionKind::Tokens => {
                section.len = 4 * end
            }
            Stream::Section(_) => {}
        }
    }
    context
}

fn contents(context: &Context, ids: &[u32]) -> Vec<Vec<u8>> {
    let mut plain = fixture::contents(context);
    for (stream, bytes) in context.streams.iter().zip(&mut plain) {
        match stream {
            Stream::Section(section) if section.kind == SectionKind::Tokens => {
                *bytes = fixture::token_bytes(ids);
            }
            Stream::Section(section) if section.kind == SectionKind::Prefix => {
                *bytes = PrefixValue::of(ids).value.0.to_vec();
            }
            _ => {}
        }
    }
    plain
}

fn seal(name: &str, terms: Terms, context: Context, ids: &[u32]) -> Capsule {
    let plain = contents(&context, ids);
    fixture::seal(
        name,
        terms,
        context,
        plain,
        &[],
        &[fixture::WRAP_KEY],
        Vec::new(),
    )
}

fn lineage(capsule: &Capsule) -> Digest {
    read(capsule).lineage().unwrap()
}

fn read(capsule: &Capsule) -> Untrusted {
    Untrusted::read_at(&capsule.file, &Limits::default()).unwrap()
}

/// A capsule that continues `parent`, changed.
fn child(
    name: &str,
    parent: &Capsule,
    turn: u64,
    change: impl FnOnce(&mut Terms, &mut Context, &mut Vec<u32>),
) -> Capsule {
    let mut context = context(turn, 0);
    let (mut terms, mut ids) = (fixture::terms(), ids(turn + 1, 0));
    context.parent = Some(Parent {
        digest: lineage(parent),
        positions: STEP * (turn - 1)..STEP * turn,
    });
    change(&mut terms, &mut context, &mut ids);
    seal(name, terms, context, &ids)
}

fn root() -> Capsule {
    seal("root", fixture::terms(), context(0, 0), &ids(1, 0))
}

fn as_is(_: &mut Terms, _: &mut Context, _: &mut Vec<u32>) {}

fn trust() -> Trust {
    Trust::from(TrustedKey::new(
        SigningKey::from_seed(&fixture::SIGN_SEED).public(),
        fixture::ISSUER,
    ))
}

/// The vectors' policy.
fn policy<'a>(trust: &'a Trust, expected: Expected<'a>) -> Policy<'a> {
    let mut policy = Policy::new(trust, fixture::NOW, fixture::AUDIENCE, expected);
    policy.subject = Some(fixture::SUBJECT.to_owned());
    policy.tenant = Some(fixture::TENANT.to_owned());
    policy
}

/// Verifies the first by the vectors' policy and extends it by the others.
fn chain<'a>(
    members: &[&'a Capsule],
    change: impl FnOnce(&mut Policy<'_>),
) -> Result<Chain<&'a [u8]>, Error> {
    let trust = trust();
    let mut policy = policy(&trust, Expected::danger_any_model());
    change(&mut policy);
    let (tip, ancestors) = members.split_first().unwrap();
    let mut chain = Chain::new(read(tip).verify(&policy)?, tip.file.as_slice());
    for parent in ancestors {
        chain = chain.extend(read(parent), parent.file.as_slice(), &policy)?;
    }
    Ok(chain)
}

fn opened(members: &[&Capsule]) -> Result<usize, Error> {
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let opened = chain(members, |_| {})?.open(&[key])?.release()?;
    Ok(opened.ancestors().len() + 1)
}

fn code(result: Result<usize, Error>) -> Code {
    result.unwrap_err().code()
}

/// The code that a root and one changed child get.
fn pair(change: impl FnOnce(&mut Terms, &mut Context, &mut Vec<u32>)) -> Code {
    let root = root();
    let child = child("child", &root, 1, change);
    code(opened(&[&child, &root]))
}

#[test]
fn a_chain_holds_one_state() {
    let root = root();
    let first = child("first", &root, 1, as_is);
    let second = child("second", &first, 2, as_is);
    let members = [&second, &first, &root];
    assert_eq!(opened(&members).unwrap(), 3);
    let chain = chain(&members, |_| {}).unwrap();
    assert_eq!(chain.wanted(), None);
    assert_eq!(chain.expires(), fixture::EXPIRES);
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let opened = chain.open(&[key]).unwrap().release().unwrap();
    assert_eq!(opened.positions(), 0..30);
    let tip = &opened.tip().manifest().context;
    for (_, bank) in tip.banks() {
        let parts = opened.parts(bank).unwrap();
        let starts: Vec<_> = parts.iter().map(|part| part.bank.rows).collect();
        assert_eq!(starts, [0, 10, 20].map(RowsEntry::From));
        for (part, capsule) in parts.iter().zip([&root, &first, &second]) {
            let bytes = part.capsule.stream_bytes(part.stream).unwrap();
            assert_eq!(bytes, capsule.plain[part.stream]);
            assert_eq!(part.bank.identity(), bank.identity());
        }
    }
    // an increment alone is whole for nobody
    let trust = trust();
    let policy = policy(&trust, Expected::danger_any_model());
    let verified = read(&second).verify(&policy).unwrap();
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let alone = verified.open(second.file.as_slice(), &key).err().unwrap();
    assert_eq!(alone.code(), Code::LineageParentAbsent);
}

#[test]
fn two_branches_share_a_base() {
    let mut terms = fixture::terms();
    terms.subject = None;
    terms.tenant = None;
    let mut base = context(0, 0);
    base.base = true;
    base.prefix = PrefixValue::of(&ids(1, 0)).public();
    let base = seal("base image", terms, base, &ids(1, 0));
    for branch in [1000, 2000] {
        let capsule = child("branch", &base, 1, |_, context, tokens| {
            *tokens = ids(2, branch);
            context.prefix = self::context(1, branch).prefix;
        });
        assert_eq!(opened(&[&capsule, &base]).unwrap(), 2);
    }
    // a wider scope than it grants
    let wider = child("wider", &base, 1, |terms, _, _| {
        terms.scope = "kv:restore kv:train".to_owned();
    });
    assert_eq!(code(opened(&[&wider, &base])), Code::LineageScope);
}

#[test]
fn parent_absent() {
    let root = root();
    let first = child("first", &root, 1, as_is);
    let second = child("second", &first, 2, as_is);
    assert_eq!(code(opened(&[&second])), Code::LineageParentAbsent);
    assert_eq!(code(opened(&[&second, &first])), Code::LineageParentAbsent);
}

#[test]
fn parent_digest_and_other_capsules_of_the_same_prefix() {
    let root = root();
    let first = child("first", &root, 1, as_is);
    let second = child("second", &first, 2, as_is);
    // the same terms, prompt and bytes: another capsule all the same
    let twin = seal("twin", fixture::terms(), context(0, 0), &ids(1, 0));
    // two children of one parent are no line
    let fork = child("fork", &root, 1, as_is);
    for wrong in [
        vec![&second, &root, &first], // reordered
        vec![&second, &root],         // a member lost
        vec![&second, &second],       // itself for its parent
        vec![&second, &first, &first],
        vec![&second, &first, &root, &first], // a cycle
        vec![&second, &fork, &root],
        vec![&first, &twin],
        vec![&first, &root, &twin], // more than the chain has
    ] {
        assert_eq!(code(opened(&wrong)), Code::LineageParentDigest);
    }
}

/// A state without a row a token is held whole by every member, and the tip's is the last.
#[test]
fn a_bank_that_is_held_whole_is_the_tips() {
    let state =
        |dims: u64| Stream::Bank(fixture::whole(Role::Recurrent, 0, 0, Dtype::F32, &[dims]));
    let mut held = context(0, 0);
    held.streams.insert(2, state(4));
    let root = seal("root", fixture::terms(), held, &ids(1, 0));
    let first = child("first", &root, 1, |_, context, _| {
        context.streams.insert(2, state(6));
    });
    let key = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let chain = chain(&[&first, &root], |_| {}).unwrap();
    let opened = chain.open(&[key]).unwrap().release().unwrap();
    let tip = &opened.tip().manifest().context;
    let counts = tip
        .banks()
        .map(|(_, bank)| opened.parts(bank).unwrap().len());
    assert_eq!(counts.collect::<Vec<_>>(), [2, 2, 1]);
    let (_, state) = tip.banks().last().unwrap();
    let part = opened.parts(state).unwrap()[0];
    let bytes = part.capsule.stream_bytes(part.stream).unwrap();
    assert_eq!(bytes, first.plain[2]);
}

#[test]
fn a_parents_windows_are_not_continued() {
    let windowed = |context: &mut Context, window| {
        for stream in &mut context.streams {
            if let Stream::Bank(bank) = stream {
                bank.window = window;
            }
        }
    };
    let mut first = context(0, 0);
    windowed(&mut first, 64);
    let root = seal("root", fixture::terms(), first, &ids(1, 0));
    let whole = child("whole", &root, 1, |_, context, _| windowed(context, 64));
    assert_eq!(opened(&[&whole, &root]).unwrap(), 2);
    let part = child("part", &root, 1, as_is);
    assert_eq!(code(opened(&[&part, &root])), Code::LineageBinding);
}

#[test]
fn a_new_header_keeps_the_children() {
    let root = root();
    let first = child("first", &root, 1, as_is);
    let (signer, next) = (
        SigningKey::from_seed(&fixture::SIGN_SEED),
        SigningKey::from_seed(&[9; 32]),
    );
    let mut trust = Trust::from(TrustedKey::new(signer.public(), fixture::ISSUER));
    trust
        .add(TrustedKey::new(next.public(), fixture::ISSUER))
        .unwrap();
    let by = Reissuer::new(&next, &trust, fixture::NOW);
    let policy = Policy::danger_as_stated(&trust, fixture::NOW, &fixture::terms());
    let verified = read(&root).verify(&policy).unwrap();
    let old = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let handed = WrappingKey::generate_of(RecipientKind::XWing).unwrap();
    let renewal = Renewal::until(fixture::EXPIRES + 1);
    let to = [(&handed).into()];
    let rewrap = Rewrap::to(&to);
    for header in [
        verified.renew(&renewal, &by).unwrap(),
        verified.rewrap(&old, &rewrap, &by).unwrap(),
    ] {
        let mut out = Cursor::new(Vec::new());
        header
            .write(&mut Cursor::new(&root.file), &mut out)
            .unwrap();
        let file = out.into_inner();
        let parent = Untrusted::read_at(&file, &Limits::default()).unwrap();
        let tip = read(&first).verify(&policy).unwrap();
        let chain = Chain::new(tip, first.file.as_slice());
        let chain = chain.extend(parent, file.as_slice(), &policy).unwrap();
        assert_eq!(chain.wanted(), None);
        let keys = [
            WrappingKey::from_bytes(fixture::WRAP_KEY),
            WrappingKey::from_text(&handed.to_secret_text().unwrap()).unwrap(),
        ];
        assert_eq!(
            chain.open(&keys).unwrap().release().unwrap().positions(),
            0..20
        );
    }
}

/// The capsule for another key alone.
fn rewrapped(capsule: &Capsule, to: &WrappingKey) -> Capsule {
    let signer = SigningKey::from_seed(&fixture::SIGN_SEED);
    let trust = Trust::from(TrustedKey::new(signer.public(), fixture::ISSUER));
    let by = Reissuer::new(&signer, &trust, fixture::NOW);
    let policy = Policy::danger_as_stated(&trust, fixture::NOW, &fixture::terms());
    let verified = read(capsule).verify(&policy).unwrap();
    let to = [to.into()];
    let rewrap = Rewrap::to(&to);
    let old = WrappingKey::from_bytes(fixture::WRAP_KEY);
    let header = verified.rewrap(&old, &rewrap, &by).unwrap();
    let mut out = Cursor::new(Vec::new());
    header
        .write(&mut Cursor::new(&capsule.file), &mut out)
        .unwrap();
    Capsule {
        file: out.into_inner(),
        plain: capsule.plain.clone(),
    }
}

#[test]
fn members_for_keys_of_every_kind() {
    let root = root();
    let first = child("first", &root, 1, as_is);
    let second = child("second", &first, 2, as_is);
    let kinds = [
        RecipientKind::Symmetric,
        RecipientKind::X25519,
        RecipientKind::XWing,
    ];
    let keys = kinds.map(|kind| WrappingKey::generate_of(kind).unwrap());
    let open = |to: [&WrappingKey; 3], with: &[WrappingKey]| {
        let members = [&second, &first, &root];
        let members: [Capsule; 3] = std::array::from_fn(|at| rewrapped(members[at], to[at]));
        let chain = chain(&members.each_ref(), |_| {}).unwrap();
        let opened = chain.open(with)?.release()?;
        let (_, bank) = opened.tip().manifest().context.banks().next().unwrap();
        for (part, capsule) in opened.parts(bank)?.iter().zip([&root, &first, &second]) {
            let bytes = part.capsule.stream_bytes(part.stream)?;
            assert_eq!(bytes, capsule.plain[part.stream]);
        }
        Ok(opened.ancestors().len() + 1)
    };
    let [secret, hpke, xwing] = &keys;
    // all for one, and each for another
    for key in &keys {
        let alone = WrappingKey::from_text(&key.to_secret_text().unwrap()).unwrap();
        assert_eq!(open([key; 3], &[alone]).unwrap(), 3);
    }
    for to in [[secret, hpke, xwing], [xwing, secret, hpke]] {
        assert_eq!(open(to, &keys).unwrap(), 3);
        // one member's key is missing, wherever it stands
        for held in [&keys[1..], &keys[..2]] {
            assert_eq!(code(open(to, held)), Code::BodyNoKey);
        }
    }
}

#[test]
fn an_increment_does_not_outlive_its_parent() {
    let mut terms = fixture::terms();
    terms.expires = fixture::NOW + 5;
    let root = seal("root", terms, context(0, 0), &ids(1, 0));
    let first = child("first", &root, 1, as_is);
    let members = [&first, &root];
    let whole = chain(&members, |policy| policy.now = fixture::NOW + 4).unwrap();
    assert_eq!(whole.expires(), fixture::NOW + 5);
    let late = chain(&members, |policy| policy.now = fixture::NOW + 5);
    let late = late.err().unwrap();
    assert_eq!(late.code(), Code::LineageParentInvalid);
    assert!(
        late.expected().is_some() && late.found().is_some(),
        "{late}"
    );
    let expired = chain(&members, |policy| policy.now = fixture::EXPIRES);
    assert_eq!(expired.err().unwrap().code(), Code::ClaimsExpired);
    // and so when time has passed since
    let trust = trust();
    let again = |now| {
        let mut policy = policy(&trust, Expected::danger_any_model());
        policy.now = now;
        whole.verify_again(&policy).map_err(|error| error.code())
    };
    assert_eq!(again(fixture::NOW + 4), Ok(()));
    assert_eq!(again(fixture::NOW + 5), Err(Code::LineageParentInvalid));
    assert_eq!(again(fixture::EXPIRES), Err(Code::ClaimsExpired));
}

#[test]
fn chain_too_deep() {
    let mut members = vec![root()];
    for turn in 1..=64 {
        let next = child("deep", members.last().unwrap(), turn, as_is);
        members.push(next);
    }
    let newest_first = |from: usize| members[from..].iter().rev().collect::<Vec<_>>();
    let deep = code(opened(&newest_first(0)));
    assert_eq!(deep, Code::LineageDepth);
    let found = chain(&newest_first(1), |_| {}).unwrap();
    assert_eq!(found.members().count(), 64);
    let low = chain(&newest_first(62), |policy| policy.limits.chain = 2);
    assert_eq!(low.err().unwrap().code(), Code::LineageDepth);
    let plain = members[62..].iter().flat_map(|member| &member.plain);
    let plain = u64::try_from(plain.map(Vec::len).sum::<usize>()).unwrap();
    let within = |budget| chain(&newest_first(62), |policy| policy.limits.budget = budget);
    assert!(within(plain).is_ok());
    let small = within(plain - 1).err().unwrap();
    assert_eq!(small.code(), Code::ResourceBudget);
}
