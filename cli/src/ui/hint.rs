//! What to do next, for each code.

use std::io::ErrorKind;

use kvcap::{Code, Error, IoSide};

/// One sentence for the person who meets an error.
pub(crate) fn hint_for(error: &Error) -> &'static str {
    match (error.code(), error.io_side()) {
        (Code::LocalIo, Some(IoSide::Source)) => {
            "check that the input is there, may be read, and was not closed before its end"
        }
        (Code::LocalIo, Some(IoSide::Sink)) if error.io_kind() == Some(ErrorKind::NotFound) => {
            "make the output's folder first, or name another"
        }
        (Code::LocalIo, Some(IoSide::Sink)) => {
            "check the space on the disk, and that the folder may be written to"
        }
        (Code::LocalIo, Some(IoSide::Peer)) if error.io_kind() == Some(ErrorKind::InvalidData) => {
            "check the address and its certificate; with --ca FILE those of an authority of your own are accepted"
        }
        (Code::LocalIo, Some(IoSide::Peer)) => {
            "check the address, and that a server runs there and can be reached"
        }
        (code, _) => hint(code),
    }
}

/// One sentence for the person who meets `code`.
fn hint(code: Code) -> &'static str {
    match code {
        Code::FramingPrologueShort
        | Code::FramingMagic
        | Code::FramingReserved
        | Code::FramingLength
        | Code::FramingPadding
        | Code::FramingTrailing => {
            "this is not an intact kv capsule: fetch it again in binary mode and compare its length"
        }
        Code::FramingVersion => "the capsule is of another format version: update kvcap",
        Code::FramingTruncated | Code::BodyTruncated => "the file is cut short: fetch it again",
        Code::CborMalformed
        | Code::CborNotCanonical
        | Code::CborDuplicateKey
        | Code::CborLimit
        | Code::CborForbidden
        | Code::CborTrailing
        | Code::CoseStructure
        | Code::CoseUnprotected
        | Code::CoseAlgorithm
        | Code::CoseHeaderUnknown
        | Code::CoseHeaderMissing
        | Code::CoseCritical
        | Code::CoseType
        | Code::CoseDetached => {
            "the header is damaged or not a capsule's: fetch it again, or ask who sealed it"
        }
        Code::KeyUnknown => "give the issuer's public key with --trust, if you do trust it",
        Code::KeyPurpose | Code::KeyWindow | Code::KeyIssuer => {
            "ask the issuer to seal again with a key that is meant for this"
        }
        Code::KeyCompromised => {
            "trust nothing that this key has signed: have the state sealed again"
        }
        Code::KeyWeak => "use a key that kvcap keygen made",
        Code::SignatureMalformed | Code::SignatureInvalid => {
            "the header is damaged or forged: fetch the capsule again, and do not restore this one"
        }
        Code::RegistryVersion => {
            "fetch the current registry and the versions before it (FILE.N), or ask its owner"
        }
        Code::RegistryRoots => {
            "fetch the current registry; if the roots were changed by its owner, get the new --registry-root from him"
        }
        Code::RegistryStale => {
            "fetch the current registry: its owner renews the timestamp every few hours (kvcap registry timestamp)"
        }
        Code::RegistryScope => {
            "trust this root with that issuer by name, or ask the registry's owner which roots speak for it"
        }
        Code::RegistryUnsigned
        | Code::RegistryExpired
        | Code::RegistryMalformed
        | Code::RegistryDuplicateKey => "fetch the current key registry from its owner",
        Code::ClaimsMalformed => {
            "the claims are empty or contradict each other: seal with others, or have it sealed again"
        }
        Code::ClaimsExpired => "have the state sealed again, with a longer --ttl if need be",
        Code::ClaimsNotYetValid => "wait until it is valid, or check this machine's clock",
        Code::ClaimsLifetime => {
            "seal or renew with a shorter --ttl; who verifies may allow more with --max-lifetime"
        }
        Code::ClaimsAudience => "name your own audience with --audience, as the issuer knows it",
        Code::ClaimsSubject => "name the subject on whose behalf you restore with --subject",
        Code::ClaimsTenant => "name your tenant with --tenant",
        Code::ClaimsScope => "have it sealed with the --scope that you need",
        Code::ClaimsRevoked | Code::ClaimsSequence => {
            "this capsule must not be used again: take a newer one of the session"
        }
        Code::ClaimsReplayed => {
            "say where its use is recorded, --ledger FILE; if it was used there, take a newer capsule"
        }
        Code::ClaimsSession => {
            "it is a checkpoint of another session, or another one of this: look at kvcap inspect"
        }
        Code::ClaimsClock => {
            "set this machine's clock; if the ledger's is the wrong one, see kvcap ledger set-clock"
        }
        Code::ManifestSuite => "have it sealed with a suite that is allowed here (--suite)",
        Code::ManifestCriticalExtension => "the capsule needs a newer reader: update kvcap",
        Code::ManifestField
        | Code::ManifestLimit
        | Code::ManifestOffsets
        | Code::ManifestDuplicateBank
        | Code::ManifestInconsistent => {
            "the header's statements do not fit together: fetch it again, or ask who sealed it"
        }
        Code::BindingModel => {
            "restore it into the model it was made by; kvcap inspect names that model"
        }
        Code::BindingTokenizer | Code::BindingRope => {
            "use the same tokenizer and rope settings as when it was sealed (--runtime-opt)"
        }
        Code::BindingLayout | Code::BindingRuntime => {
            "restore it with the runtime, version and settings that saved it"
        }
        Code::BindingEquivalence | Code::BindingStatement => {
            "give the statement of the two models' equivalence; kvcap model-id --equate makes it"
        }
        Code::BindingPrefix => {
            "this is the state of another prompt: compute it anew, or find its own capsule"
        }
        Code::BindingPositions | Code::BindingBankMissing => {
            "the capsule does not hold all that is needed: compute the state anew"
        }
        Code::BindingUnchecked => {
            "say what the capsule must be of (--model), or accept by name that nobody looks: --accept-unchecked NAME"
        }
        Code::BindingCapture => {
            "compute the state anew without it, or accept it by name: --accept-unchecked NAME"
        }
        Code::LineageParentAbsent => {
            "give the capsules that it continues with --chain: files, or their folder"
        }
        Code::LineageParentDigest | Code::LineagePositions | Code::LineageBinding => {
            "give the capsule that this one, or the state, was made from"
        }
        Code::LineageScope => {
            "an increment has its parent's subject and tenant, and no more of its scope"
        }
        Code::LineageDepth => "make one capsule of the chain with kvcap compact",
        Code::LineageIssuer => "an increment is sealed by the issuer of what it continues",
        Code::LineageParentInvalid => {
            "have the parent renewed (kvcap renew), or the whole state sealed again"
        }
        Code::BodyTable | Code::BodyTableRows | Code::BodyChunkDigest | Code::BodyChunk => {
            "the body was changed after it was sealed: fetch it again, and do not restore this one"
        }
        Code::BodyRecipient => {
            "wrap for each key once, and for hpke or for x-wing recipients, not both"
        }
        Code::BodyUnwrap | Code::BodyCommitment => {
            "the wrapped key is damaged or forged: have the state sealed again"
        }
        Code::BodyNoKey => "give the wrapping key that it was sealed for with --wrap-key",
        Code::BodyRange => "ask for what the capsule holds; kvcap inspect lists it",
        Code::BodyKeyDestroyed => "its key was destroyed on purpose: the state is gone",
        Code::CodecUnknown => "the capsule uses a codec of a newer version: update kvcap",
        Code::CodecMalformed | Code::CodecLength | Code::CodecBounds | Code::CodecReceipt => {
            "the issuer's encoder is at fault: have the state sealed again"
        }
        Code::CodecBackend => {
            "leave KVCAP_BACKEND unset: the cpu does the codecs; please report the machine's name"
        }
        Code::CodecNoProfile => {
            "put the profile's file (.kvtc) beside the model, keep it by codec-profile add, or name it with --codec-profile"
        }
        Code::CodecProfile => "name the profile that was made for this model",
        Code::CodecNonFinite => {
            "the state holds values that are not finite: seal it with --encoding exact"
        }
        Code::ResourceBudget => {
            "the capsule is larger than allowed here; where you trust its issuer, raise --budget"
        }
        Code::StateUnrecognised => {
            "save the state with its runtime, in a form that spec/runtimes-v1.md lists"
        }
        Code::StateMalformed => "the state file is damaged: save it again",
        Code::StateUnsupported => {
            "save the state without what is named, or with a version that spec/runtimes-v1.md lists"
        }
        Code::StateContradiction => {
            "give the model and the token ids that the state is of (--model, --tokens); if the file contradicts itself, save it again"
        }
        Code::StateLimit => "the state file is damaged, or larger than a capsule can hold",
        Code::StateUnknownPrefix => {
            "seal with the prompt's token ids, --tokens FILE; --danger-no-prefix seals without them"
        }
        Code::StateRestoreIneffective => {
            "the runtime loaded the state and did not use it: see its log, and count this as a cold start"
        }
        Code::ModelMalformed => "give a model folder, a gguf file or a .kvid file",
        Code::ModelUnsupported => "a state of this model cannot be bound safely",
        Code::ModelMissing => {
            "give the folder with config.json, tokenizer.json and the weights, a gguf file, or a .kvid"
        }
        Code::ModelUnequal => {
            "compare files of one type (weights of bf16 with a BF16 GGUF), or compute the state anew"
        }
        Code::LocalIo => "check the path, its permissions and the space on the disk",
        Code::LocalExists => "choose another name, or overwrite with --force",
        Code::LocalKeyMalformed => {
            "give the right key: KEY is secret, KEY.pub is for --trust, a key registry for --registry; kvcap keygen makes keys"
        }
        Code::LocalKeyMode => "make it yours alone: chown and chmod 600 FILE",
        Code::LocalUsage => "see the verb's --help",
        Code::LocalConfig => {
            "kvcap profile show names the settings; --profile none goes without a profile"
        }
        Code::LocalPassphrase => {
            "type the passphrase on a terminal, or name a file that holds it: KVCAP_PASSPHRASE_FILE"
        }
        Code::LocalHelper => {
            "run the program that the key's file names by hand; spec/helper-v1.md shows what it reads and writes"
        }
        Code::LocalBusy => "wait until the other kvcap process has finished, and try again",
        Code::SessionMalformed => {
            "compare the event or the record with spec/session-v1.md; kvcap events list shows the log"
        }
        Code::SessionLimit => "keep large outputs in files of your own, and name them in the event",
        Code::SessionGap => "give the events from the log's end on; kvcap events list shows it",
        Code::SessionFork => {
            "another device went on with this session: branch it, or take that device's log"
        }
        Code::SessionVersion => "another checkpoint was made meanwhile: read the session again",
        Code::SessionMissing => "kvcap sessions lists what is there",
        Code::SessionEmpty => "append events or checkpoint a state first",
        Code::SessionNoState => {
            "give a state to kvcap checkpoint, or resume from the history alone"
        }
        Code::SessionBehind => "go back from an earlier version: kvcap status lists them",
        Code::SessionContext => "give the runtime a larger context, or resume from fewer positions",
        Code::SessionDiverged => {
            "the conversation was edited since: what is common is restored, the rest is read again"
        }
        Code::SessionWhole => {
            "a window or a recurrent layer cannot be cut: resume from an earlier checkpoint"
        }
        // the library may learn codes before this table does; a test keeps the two in step
        _ => "see spec/errors.md",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_hint_of_its_own() {
        for code in Code::ALL {
            let text = hint(*code);
            assert_ne!(text, "see spec/errors.md", "{code}");
            assert!(!text.ends_with('.') && !text.contains('\n'), "{code}");
        }
    }
}
