//! Ancestors: given in any order, or found beside a capsule and in folders.

use kvcap::{Parent, ReadAt, RowsEntry};
use kvcap_store::{Verdict, capsules_in};

use super::*;

#[test]
fn a_capsule_that_is_given_as_an_ancestor_has_to_be_one() {
    let home = folder();
    let folder = home.path();
    let file = sealed(|_| {});
    let beside = folder.join("other.kvcap");
    fs::write(&beside, &file).unwrap();
    let verifier = verifier();
    let judge = verifier.judge().unwrap();
    let tip = folder.join("tip.kvcap");
    let complete = |given: &[PathBuf]| {
        let verdict = judge.verify(untrusted(&file)).unwrap().with_source(None);
        let ancestors = Ancestors { tip: &tip, given };
        judge.with_ancestors(verdict, &ancestors, Some).map(|_| ())
    };
    assert!(complete(&[]).is_ok());
    assert!(complete(&[folder.to_path_buf()]).is_ok());
    assert_eq!(complete(&[beside]).unwrap_err().code().number(), 702);
    assert_eq!(
        complete(&[folder.join("absent")])
            .unwrap_err()
            .code()
            .number(),
        940
    );
}

/// A capsule of ten positions from `start`, which continues `parent`.
fn increment(start: u64, parent: Option<&[u8]>) -> Vec<u8> {
    let parent = parent.map(|file| Parent {
        digest: untrusted(file).lineage().unwrap(),
        positions: start - 10..start,
    });
    sealed_with(
        |_| {},
        |context| {
            context.parent = parent.clone();
            context.positions = start..start + 10;
            for stream in &mut context.streams {
                if let Stream::Bank(bank) = stream {
                    *bank = fixture::rows(bank.role, 0, bank.dtype, 1, 10, 32);
                    bank.rows = RowsEntry::From(start);
                }
            }
        },
    )
}

#[test]
fn ancestors_are_given_in_any_order_and_a_chain_without_them_is_refused() {
    let root = increment(0, None);
    let first = increment(10, Some(&root));
    let second = increment(20, Some(&first));
    let verifier = verifier();
    let mut judge = verifier.judge().unwrap();
    let complete = |judge: &Judge<'_>, given: &[&[u8]]| {
        let verdict = judge.verify(untrusted(&second)).unwrap();
        assert!(!verdict.has_checked(Unchecked::Ancestors));
        let given = given.iter().map(|file| (untrusted(file), ()));
        judge.with_given_ancestors(verdict, given)
    };
    for given in [[&root[..], &first], [&first[..], &root]] {
        let verdict = complete(&judge, &given).unwrap();
        assert!(verdict.has_checked(Unchecked::Ancestors));
        assert_eq!(verdict.chain().members().count(), 3);
        assert!(judge.conclude(verdict).is_ok());
    }
    let code = |result: Result<_, kvcap::Error>| {
        result.map_or_else(|error| error.code().number(), |_: Verdict| 0)
    };
    for lacking in [&[][..], &[&first[..]]] {
        assert_eq!(code(complete(&judge, lacking)), 701);
        // who only keeps it does without
        let mut keeping = verifier.judge().unwrap().for_keeping();
        let verdict = complete(&keeping, lacking).unwrap();
        assert!(!verdict.has_checked(Unchecked::Ancestors));
        assert!(keeping.conclude(verdict).is_ok());
    }
    let verdict = judge.verify(untrusted(&second)).unwrap();
    assert_eq!(judge.conclude(verdict).unwrap_err().code().number(), 701);
    let other = sealed(|_| {});
    assert_eq!(code(complete(&judge, &[&first, &root, &other])), 702);
    assert_eq!(code(complete(&judge, &[&first, &first, &root])), 702);
}

/// Lengths of the files that are found to be ancestors of the one at `tip`, or the code.
fn found(tip: &Path, given: &[PathBuf]) -> Result<Vec<u64>, u16> {
    let verifier = verifier();
    let judge = verifier.judge().unwrap();
    let verdict = judge.verify(untrusted(&fs::read(tip).unwrap())).unwrap();
    let ancestors = Ancestors { tip, given };
    let verdict = judge
        .with_ancestors(verdict.with_source(None), &ancestors, Some)
        .map_err(|error| error.code().number())?;
    let sources = verdict.chain().members().map(|(_, source)| source);
    Ok(sources.flatten().map(ReadAt::len).collect())
}

/// A folder with a capsule that continues another, which is not there.
fn with_increment() -> (TempDir, PathBuf, Vec<u8>) {
    let home = folder();
    let root = increment(0, None);
    let tip = home.path().join("tip.kvcap");
    fs::write(&tip, increment(10, Some(&root))).unwrap();
    (home, tip, root)
}

#[test]
fn ancestors_are_found_beside_a_capsule_and_in_folders() {
    let (home, tip, root) = with_increment();
    let folder = home.path();
    assert_eq!(found(&tip, &[]), Err(701));
    let put = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
    // a header without its body, another name, and what is no capsule
    put("cut.kvcap", &root[..8192]);
    put("root.bin", &root);
    put("text.kvcap", b"no capsule");
    assert_eq!(found(&tip, &[]), Err(701));
    put("root.kvcap", &root);
    let whole = Ok(vec![root.len() as u64]);
    let [path, other, cut] = ["root.kvcap", "root.bin", "cut.kvcap"].map(|name| folder.join(name));
    assert_eq!(found(&tip, &[]), whole);
    assert_eq!(found(&tip, &[folder.to_owned()]), whole);
    assert_eq!(found(&tip, std::slice::from_ref(&path)), whole);
    // what is given is taken, whatever else is found; given twice, it is no ancestor the second time
    let given = [folder.to_owned(), cut];
    assert_eq!(found(&tip, &given), Ok(vec![8192]));
    assert_eq!(found(&tip, &[path, other]), Err(702));
    assert_eq!(capsules_in(folder).unwrap().len(), 4);
}

/// Whoever can write to a folder does not decide how long it is searched.
#[test]
fn a_folder_with_too_much_in_it_is_named_and_not_searched() {
    let (home, tip, root) = with_increment();
    let folder = home.path();
    let first = folder.join("0.kvcap");
    fs::write(&first, sealed(|_| {})).unwrap();
    // with the tip 4096 capsules of somebody who is trusted, none of them the parent
    let more = |name: u32| fs::hard_link(&first, folder.join(format!("{name}.kvcap"))).unwrap();
    (1..4095).for_each(more);
    assert_eq!(found(&tip, &[]), Err(701));
    assert_eq!(capsules_in(folder).unwrap().len(), 4096);
    more(4095);
    assert_eq!(found(&tip, &[]), Err(944));
    let refused = capsules_in(folder).unwrap_err();
    assert_eq!(refused.code().number(), 944);
    // it is found where it is named
    let named = folder.join("root");
    fs::write(&named, &root).unwrap();
    assert_eq!(found(&tip, &[named]), Ok(vec![root.len() as u64]));
}

#[test]
fn long_headers_of_a_stranger_keep_no_ancestor_out() {
    let (home, tip, root) = with_increment();
    let folder = home.path();
    // a mebibyte of header each, of which the prologue is good
    let mut prologue = root[..64].to_vec();
    prologue[12..16].copy_from_slice(&((1_u32 << 20) - 64).to_le_bytes());
    let more = |name: u32| {
        let path = folder.join(format!("{name}.kvcap"));
        fs::write(&path, &prologue).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(1 << 20).unwrap();
    };
    (1..64).for_each(more);
    assert_eq!(found(&tip, &[]), Err(701));
    more(64);
    assert_eq!(found(&tip, &[]), Err(944));
    fs::write(folder.join("root.kvcap"), &root).unwrap();
    assert_eq!(found(&tip, &[]), Ok(vec![root.len() as u64]));
}
