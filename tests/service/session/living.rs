//! A session that lives, by the clock that its caller has: what is saved when, how, and renewed.

use std::path::Path;

use kvcap::{
    CapsuleId, Code, Error, Limits, Policy, Reissued, Reissuer, Renewal, Result, SigningKey,
    SourceFile, Suite, Terms, Trust, Untrusted, WrappingKey,
};
use kvcap_session::{
    Cause, Controller, Kind, Moment, Names, NewState, Record, Renewer, SavePolicy, SavedState,
    Sealing, Session, Signs, files::DeviceTier, seal_history,
};
use kvcap_store::output::Output;
use tempfile::TempDir;

const NOW: u64 = 1_800_000_000;

/// Whoever seals and renews: capsules without a state, which a session does not look into.
struct Owner {
    signer: SigningKey,
    wrap: WrappingKey,
    expires: u64,
    cap: u64,
    /// That the next state goes on from the latest, or why not.
    continues: Result<()>,
    /// How sealing an increment ends.
    increment: Result<()>,
    controller: Option<Controller>,
    /// The parents that were compared, and those that were sealed for.
    asked: Vec<u64>,
    sealed: Vec<bool>,
}

impl Owner {
    fn new() -> Self {
        let signer = SigningKey::from_seed(&[7; 32]);
        Self {
            signer: signer.speaking_for("issuer").unwrap(),
            wrap: WrappingKey::from_bytes([9; 32]),
            expires: NOW + 3600,
            cap: NOW + 86_400,
            continues: Ok(()),
            increment: Ok(()),
            controller: None,
            asked: Vec::new(),
            sealed: Vec::new(),
        }
    }
}

impl NewState for Owner {
    fn expires(&self) -> u64 {
        self.expires
    }

    fn controller(&self) -> Option<&Controller> {
        self.controller.as_ref()
    }

    fn continues(&mut self, parent: &SavedState) -> Result<()> {
        self.asked.push(parent.capsule.version);
        self.continues.clone()
    }

    fn seal(&mut self, output: &Output, sealing: Sealing<'_>) -> Result<CapsuleId> {
        self.sealed.push(sealing.parent.is_some());
        if sealing.parent.is_some() {
            self.increment.clone()?;
        }
        let names: Vec<&str> = sealing
            .sections
            .iter()
            .map(|(kind, _)| kind.name())
            .collect();
        let expected = ["history", "agent-state", "controller"];
        let count = 2 + usize::from(self.controller.is_some());
        assert_eq!(names, expected[..count]);
        let record = Record::from_cbor(&sealing.sections[0].1)?;
        assert_eq!(
            (&record.session, record.version),
            (&sealing.claims.id, sealing.claims.version)
        );
        assert_eq!(record.capsule, None);
        let mut terms = Terms::new("issuer", "local", NOW, self.expires);
        terms.session = Some(sealing.claims);
        terms.renew_until = self.cap;
        let suite = Suite::ChaCha20Poly1305;
        let (_, sealed) = seal_history(output, &record, suite, terms, &self.signer, &[&self.wrap])?;
        Ok(sealed.id)
    }
}

/// A renewer at a time.
struct At<'a>(&'a Owner, u64);

impl Renewer for At<'_> {
    fn expires(&self) -> u64 {
        self.0.expires
    }

    fn renew(&mut self, capsule: &Path, expires: u64) -> Result<(SourceFile, Reissued)> {
        let trust = Trust::from(&self.0.signer);
        let file = SourceFile::open(capsule)?;
        let untrusted = Untrusted::read_at(&file, &Limits::default())?;
        let terms = untrusted.claims().terms.clone();
        let verified = untrusted.verify(&Policy::danger_as_stated(&trust, self.1, &terms))?;
        let by = Reissuer::new(&self.0.signer, &trust, self.1);
        let header = verified.renew(&Renewal::until(expires), &by)?;
        Ok((file, header))
    }
}

fn session(folder: &TempDir) -> Session {
    let tier = DeviceTier::at(folder.path().join("sessions"));
    Session::load_or_create(&tier, &Names::of("s"), NOW).unwrap()
}

fn say(session: &mut Session, at: u64, kind: Kind) {
    session.append(at, kind, "word".into()).unwrap();
}

#[test]
fn a_session_knows_its_moment() {
    let folder = TempDir::new().unwrap();
    let mut session = session(&folder);
    let moment = |session: &Session, now| session.moment(now, Signs::default()).unwrap();
    assert_eq!(moment(&session, NOW), Moment::default());
    say(&mut session, NOW, Kind::User);
    let open = moment(&session, NOW + 7);
    let expected = Moment {
        events: 1,
        last: Some(Kind::User),
        idle: 7,
        ..Moment::default()
    };
    assert_eq!(open, expected);
    say(&mut session, NOW + 10, Kind::Assistant);
    say(&mut session, NOW + 20, Kind::Milestone);
    let ended = moment(&session, NOW + 20);
    assert_eq!((ended.turns, ended.events, ended.idle), (1, 3, 0));
    assert!(ended.milestone);
    let mut owner = Owner::new();
    session
        .checkpoint(NOW + 30, Cause::Asked, Some(&mut owner))
        .unwrap();
    // since the checkpoint nothing; a clock that went back makes nothing idle
    let quiet = moment(&session, NOW);
    assert_eq!(
        (quiet.turns, quiet.events, quiet.idle, quiet.last),
        (0, 0, 0, None)
    );
    assert!(!quiet.milestone);
    assert_eq!(quiet.expires_in, Some(3600));
    let signs = Signs {
        exiting: true,
        signalled: true,
        cache_expires: Some(NOW + 60),
    };
    let told = session.moment(NOW, signs).unwrap();
    assert_eq!(
        (told.exiting, told.signalled, told.expires_in),
        (true, true, Some(60))
    );
    assert_eq!(session.moment(NOW + 99, signs).unwrap().expires_in, Some(0));
}

#[test]
fn a_session_is_saved_when_its_policy_says_so() {
    let folder = TempDir::new().unwrap();
    let mut session = session(&folder);
    let policy = SavePolicy::default();
    let mut owner = Owner::new();
    let mut cause = |session: &mut Session, now| {
        let moment = session.moment(now, Signs::default()).unwrap();
        let saved = session.save_if_due(&policy, &moment, now, Some(&mut owner), None);
        saved.unwrap().map(|record| record.cause)
    };
    for turn in 0..3 {
        assert_eq!(cause(&mut session, NOW), None, "{turn}");
        say(&mut session, NOW, Kind::User);
        assert_eq!(cause(&mut session, NOW), None, "{turn}");
        say(&mut session, NOW, Kind::Assistant);
    }
    assert_eq!(cause(&mut session, NOW), Some(Cause::Turns));
    assert_eq!(cause(&mut session, NOW + 400), None);
    say(&mut session, NOW + 400, Kind::User);
    assert_eq!(cause(&mut session, NOW + 699), None);
    assert_eq!(cause(&mut session, NOW + 700), Some(Cause::Idle));
    say(&mut session, NOW + 700, Kind::Milestone);
    assert_eq!(cause(&mut session, NOW + 700), Some(Cause::Milestone));
    assert_eq!(session.versions().unwrap(), [1, 2, 3]);
    // nothing new, and soon expired
    assert_eq!(cause(&mut session, NOW + 2699), None);
    assert_eq!(cause(&mut session, NOW + 2700), Some(Cause::Expiry));
}

#[test]
fn what_expires_lives_on_to_its_cap() {
    let folder = TempDir::new().unwrap();
    let mut session = session(&folder);
    let policy = SavePolicy::default();
    let mut owner = Owner::new();
    say(&mut session, NOW, Kind::User);
    let first = session
        .checkpoint(NOW, Cause::Asked, Some(&mut owner))
        .unwrap();
    let first = first.capsule.unwrap();
    let renewed = |session: &mut Session, now, expires| {
        let owner = Owner {
            expires,
            ..Owner::new()
        };
        let moment = session.moment(now, Signs::default()).unwrap();
        let mut by = At(&owner, now);
        session
            .save_if_due(&policy, &moment, now, None, Some(&mut by))
            .unwrap()
    };
    assert_eq!(renewed(&mut session, NOW + 2699, NOW + 9000), None);
    let second = renewed(&mut session, NOW + 2700, NOW + 9000).unwrap();
    assert_eq!((second.version, second.cause), (2, Cause::Expiry));
    let capsule = second.capsule.unwrap();
    assert_eq!((&capsule.id, capsule.lineage), (&first.id, first.lineage));
    assert_eq!((capsule.version, capsule.expires), (1, NOW + 9000));
    let path = session.states().unwrap()[0].path.clone();
    let file = SourceFile::open(&path).unwrap();
    let header = Untrusted::read_at(&file, &Limits::default()).unwrap();
    let terms = &header.claims().terms;
    assert_eq!((terms.expires, terms.issued_at), (NOW + 9000, NOW + 2700));
    assert_eq!(terms.session.as_ref().unwrap().version, 1);
    assert_eq!(kvcap::ReadAt::len(&file), capsule.bytes);
    assert_eq!(
        session.record(1).unwrap().capsule.unwrap().expires,
        NOW + 3600
    );
    // past the cap it stops, and there is nothing more to gain
    let third = renewed(&mut session, NOW + 8999, NOW + 99_999).unwrap();
    assert_eq!(third.capsule.unwrap().expires, NOW + 86_400);
    assert_eq!(renewed(&mut session, NOW + 86_399, NOW + 99_999), None);
    // what has expired is not renewed, and the log can be saved all the same
    assert_eq!(renewed(&mut session, NOW + 90_000, NOW + 99_999), None);
    say(&mut session, NOW + 90_000, Kind::User);
    let saved = renewed(&mut session, NOW + 90_001, NOW + 99_999).unwrap();
    assert_eq!((saved.cause, saved.replay_cursor), (Cause::Expiry, 2));
    assert_eq!(session.versions().unwrap(), [1, 2, 3, 4]);
}

#[test]
fn what_cannot_be_renewed_is_sealed_again() {
    let folder = TempDir::new().unwrap();
    let mut session = session(&folder);
    let policy = SavePolicy::default();
    let mut owner = Owner::new();
    session
        .checkpoint(NOW, Cause::Asked, Some(&mut owner))
        .unwrap();
    let now = NOW + 3000;
    let moment = session.moment(now, Signs::default()).unwrap();
    // a key that nobody trusts any more
    let stranger = Owner {
        signer: SigningKey::from_seed(&[8; 32])
            .speaking_for("issuer")
            .unwrap(),
        expires: NOW + 9000,
        ..Owner::new()
    };
    let mut by = At(&stranger, now);
    let refused = session.save_if_due(&policy, &moment, now, None, Some(&mut by));
    assert_eq!(refused.unwrap_err().code(), Code::KeyUnknown);
    assert_eq!(session.versions().unwrap(), [1]);
    owner.expires = NOW + 9000;
    let saved = session.save_if_due(&policy, &moment, now, Some(&mut owner), Some(&mut by));
    let saved = saved.unwrap().unwrap();
    assert_eq!(saved.capsule.unwrap().version, 2);
}

/// A state that cannot be an increment is whole, whoever finds out and when.
#[test]
fn no_state_is_lost_to_a_chain() {
    let folder = TempDir::new().unwrap();
    let mut session = session(&folder);
    let mut owner = Owner::new();
    let mut save = |owner: &mut Owner| session.checkpoint(NOW, Cause::Asked, Some(owner));
    save(&mut owner).unwrap();
    assert_eq!((&owner.asked, &owner.sealed), (&vec![], &vec![false]));
    // it is no prefix
    owner.continues = Err(Error::new(Code::LineageParentDigest, "another"));
    save(&mut owner).unwrap();
    assert_eq!(owner.sealed, [false, false]);
    // sealing finds that it may not be one
    owner.continues = Ok(());
    for code in [Code::LineageDepth, Code::LineageScope, Code::LineageBinding] {
        owner.increment = Err(Error::new(code, "no"));
        let whole = save(&mut owner).unwrap().capsule.unwrap();
        assert!(whole.ancestors.is_empty());
    }
    assert_eq!(owner.sealed[2..], [true, false, true, false, true, false]);
    // a failure of another kind is told, and there is no new version
    owner.increment = Err(Error::new(Code::LocalIo, "full"));
    assert_eq!(save(&mut owner).unwrap_err().code(), Code::LocalIo);
    // the latest lives too short, and is not asked about
    owner.asked.clear();
    owner.expires = NOW + 7201;
    owner.controller = Some(Controller::of("llama.cpp"));
    let last = save(&mut owner).unwrap();
    assert!(owner.asked.is_empty());
    assert_eq!(last.version, 6);
    // what the capsule holds, which this owner seals nothing beside
    assert!(!last.capsule.unwrap().controller);
}
