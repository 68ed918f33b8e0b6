//! A renewal, stopped at each of its operations on the disk.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use kvcap::{
    CapsuleId, Limits, Policy, Reissued, Reissuer, Renewal, Result, SigningKey, SourceFile, Suite,
    Terms, Trust, Untrusted, WrappingKey,
};
use kvcap_session::{
    Cause, Kind, NewState, Record, Renewer, SavedState, Sealing, Session, files::DeviceTier,
    seal_history,
};
use kvcap_store::{operation::observe, output::Output};

use crate::{
    crash::{alone, place, quick},
    work::name,
};

const NOW: u64 = 1_800_000_000;
const FIRST: u64 = NOW + 600;
const UNTIL: u64 = NOW + 3600;

struct Owner(SigningKey);

impl NewState for Owner {
    fn expires(&self) -> u64 {
        FIRST
    }

    fn continues(&mut self, _: &SavedState) -> Result<()> {
        Ok(())
    }

    fn seal(&mut self, output: &Output, sealing: Sealing<'_>) -> Result<CapsuleId> {
        let record = Record::from_cbor(&sealing.sections[0].1)?;
        let mut terms = Terms::new("issuer", "local", NOW, FIRST);
        terms.session = Some(sealing.claims);
        let (suite, key) = (Suite::ChaCha20Poly1305, WrappingKey::from_bytes([9; 32]));
        let (_, sealed) = seal_history(output, &record, suite, terms, &self.0, &[&key])?;
        Ok(sealed.id)
    }
}

impl Renewer for Owner {
    fn expires(&self) -> u64 {
        UNTIL
    }

    fn renew(&mut self, capsule: &Path, expires: u64) -> Result<(SourceFile, Reissued)> {
        let trust = Trust::from(&self.0);
        let file = SourceFile::open(capsule)?;
        let untrusted = Untrusted::read_at(&file, &Limits::default())?;
        let terms = untrusted.claims().terms.clone();
        let verified = untrusted.verify(&Policy::danger_as_stated(&trust, NOW, &terms))?;
        let header = verified.renew(
            &Renewal::until(expires),
            &Reissuer::new(&self.0, &trust, NOW),
        )?;
        Ok((file, header))
    }
}

/// Whether there are as many capsules as before, each whole; and when the session's own expires.
fn held(path: &PathBuf, body: &[u8]) -> u64 {
    let bytes = fs::read(path).unwrap();
    assert!(bytes.ends_with(body));
    let untrusted = Untrusted::read_at(&bytes, &Limits::default()).unwrap();
    assert_eq!(untrusted.file_len(), bytes.len() as u64);
    untrusted.claims().terms.expires
}

#[test]
fn a_renewal_that_is_stopped_leaves_the_old_capsule_or_the_new_one() {
    let _alone = alone();
    let mut owner = Owner(
        SigningKey::from_seed(&[7; 32])
            .speaking_for("issuer")
            .unwrap(),
    );
    let mut stopped = 0;
    loop {
        let folder = quick();
        let tier = DeviceTier::at(folder.path().join("sessions"));
        let mut session = Session::load_or_create(&tier, &name(), NOW).unwrap();
        session.append(NOW, Kind::User, "hello".into()).unwrap();
        session
            .checkpoint(NOW, Cause::Asked, Some(&mut owner))
            .unwrap();
        let path = session.states().unwrap()[0].path.clone();
        let file = fs::read(&path).unwrap();
        let body = &file[file.len() - 64..];

        let (done, watched) = (Arc::new(AtomicUsize::new(0)), folder.path().to_owned());
        let seen = Arc::clone(&done);
        observe(Some(Box::new(move |operation| {
            let is_ours = place(&operation).starts_with(&watched);
            match is_ours && seen.fetch_add(1, Ordering::Relaxed) >= stopped {
                true => Err(io::Error::other("stopped")),
                false => Ok(()),
            }
        })));
        let renewed = session.renew(NOW, &mut owner);
        observe(None);
        let expires = held(&path, body);
        let mut session = Session::load(&tier, &name()).unwrap();
        let record = session.newest().unwrap().unwrap();
        let named = record.capsule.unwrap().expires;
        // a record names no more than there is
        assert!(named <= expires, "{stopped}");
        match renewed {
            Ok(renewed) => {
                assert_eq!(renewed.unwrap().version, 2);
                assert_eq!((record.version, named, expires), (2, UNTIL, UNTIL));
                break;
            }
            Err(_) => assert!([FIRST, UNTIL].contains(&expires)),
        }
        // begun again it ends as if nothing had been
        if record.version == 1 {
            let again = session.renew(NOW, &mut owner).unwrap().unwrap();
            assert_eq!(again.capsule.unwrap().expires, UNTIL);
        }
        assert_eq!(held(&path, body), UNTIL);
        assert_eq!(session.versions().unwrap(), [1, 2]);
        stopped += 1;
    }
    assert!(stopped > 6, "{stopped} operations");
}
