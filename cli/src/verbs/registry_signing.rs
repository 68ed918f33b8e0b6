//! Who signs a registry, and what they have signed or are to sign (registry-v1 §8.6).

use std::path::{Path, PathBuf};

use kvcap::{Proposal, Result, Root, RootKey, RootPublic};
use kvcap_store::{Changed, RegistryFile, key_file, roots};

use crate::{
    ui::{self, Report, usage},
    verbs::registry_show::{self, written},
};

/// Who signs a registry's next version.
#[derive(Debug, clap::Args)]
pub(super) struct By {
    /// The registry
    pub(super) file: PathBuf,
    /// The secret root key's file; several times for several roots
    #[arg(long, value_name = "KEY", required = true)]
    root_key: Vec<PathBuf>,
    /// Root under which a registry of several roots is verified first, where none of the keys is the one that it began
    /// with: a ROOT.pub file, or its text
    #[arg(long, value_name = "PUB")]
    registry_root: Vec<String>,
}

/// Root keys at hand, and the roots under which the file is verified before they sign.
pub(super) struct Signers<'a> {
    path: &'a Path,
    pub(super) keys: Vec<RootKey>,
    pub(super) under: Vec<RootPublic>,
}

impl By {
    pub(super) fn read(&self) -> Result<Signers<'_>> {
        let passphrases = ui::passphrases();
        let keys = self.root_key.iter();
        let keys = keys.map(|path| key_file::root(path, &passphrases));
        let keys = keys.collect::<Result<Vec<RootKey>>>()?;
        let mut under = roots(&self.registry_root)?;
        under.extend(keys.iter().map(RootKey::public));
        let path = &self.file;
        Ok(Signers { path, keys, under })
    }
}

impl Signers<'_> {
    pub(super) fn file(&self) -> RegistryFile<'_> {
        RegistryFile::at(self.path)
    }
}

/// A root of a statement: its public file names the issuers that it speaks for.
pub(super) fn named_root(text: &str) -> Result<Root> {
    let root = key_file::root_public(text)?;
    let Some(key) = root.key() else {
        return usage("a root is named by its key", text);
    };
    let mut issuers = root.issuers().to_vec();
    issuers.sort();
    Ok(Root::new(*key, (!issuers.is_empty()).then_some(issuers)))
}

pub(super) fn changed(by: &Signers<'_>, change: Changed) -> Result<Report> {
    match change {
        Changed::Published(registry) => Ok(written(by.path, &registry)),
        Changed::Proposed(proposal) => {
            let mut report = Report::new();
            describe_proposal(&mut report, &proposal)?;
            let wanted = proposal.signatures()?;
            let shown = wanted
                .iter()
                .map(|(have, want)| format!("{have} of {want}"));
            let shown: Vec<String> = shown.collect();
            report.row(
                "signatures",
                format_args!("{}: more roots have to sign", shown.join(", ")),
            );
            let path = format!("{}.proposed", by.path.display());
            report.row("proposed", &path);
            report.fact("output", path);
            Ok(report)
        }
    }
}

/// What is signed, in a line.
pub(super) fn summary(proposal: &Proposal) -> Result<String> {
    let listing = proposal.listing()?;
    let roots = match proposal.roots() {
        Some(roots) if proposal.changes_roots() => {
            let ids = roots.roots.iter().map(|root| root.id().to_string());
            let ids: Vec<String> = ids.collect();
            format!(
                ", under {} of {} from then on",
                roots.threshold,
                ids.join(", ")
            )
        }
        _ => String::new(),
    };
    let (version, keys, revoked) = (listing.version, listing.keys.len(), listing.revoked.len());
    Ok(format!(
        "version {version}, which lists {keys} keys and {revoked} revoked capsules{roots}"
    ))
}

fn describe_proposal(report: &mut Report, proposal: &Proposal) -> Result<()> {
    let listing = proposal.listing()?;
    if let Some(roots) = proposal.roots() {
        registry_show::describe(report, &listing, roots.chain);
        registry_show::describe_roots(report, roots, None);
        report.row(
            "changes roots",
            if proposal.changes_roots() {
                "yes"
            } else {
                "no"
            },
        );
    }
    Ok(())
}
