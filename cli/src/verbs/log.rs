//! `kvcap log`: the lineage of capsules as a tree.

use std::{collections::BTreeMap, path::PathBuf};

use kvcap::{Claims, Limits, Outline, Result, SourceFile, Untrusted};
use kvcap_store::{capsules_in, input, time};
use serde_json::json;

use crate::ui::{Report, bytes, quoted};

/// Shows how capsules continue each other
///
/// Reads headers alone, and no secret: what is shown are unverified claims. `kvcap verify` checks a
/// capsule and those that it continues.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Capsules, or folders of them
    #[arg(default_value = ".")]
    path: Vec<PathBuf>,
}

struct Node {
    path: PathBuf,
    claims: Claims,
    outline: Outline,
    lineage: String,
    bytes: u64,
}

/// # Errors
/// 1xx, 2xx, 5xx for a malformed header of a capsule that is named; 940.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let mut nodes = Vec::new();
    for path in &args.path {
        match path.is_dir() {
            true => {
                let found = capsules_in(path)?;
                // what is no capsule has no lineage
                nodes.extend(found.into_iter().filter_map(|path| Node::read(path).ok()));
            }
            false => nodes.push(Node::read(path.clone())?),
        }
    }
    let mut report = Report::new();
    report.line("UNVERIFIED claims: the files say this of themselves (kvcap verify checks them)");
    for line in tree(&nodes) {
        report.line(line);
    }
    if nodes.is_empty() {
        report.line("no capsule here");
    }
    let listed = nodes.iter().map(Node::json).collect::<Vec<_>>();
    report.fact("verified", "nothing");
    report.fact("unverified", listed);
    Ok(report)
}

/// One line a capsule, below its parent where that is here. A parent is named by a digest of what it
/// holds, so that no capsule can be its own ancestor.
fn tree(nodes: &[Node]) -> Vec<String> {
    let mut children: BTreeMap<&str, Vec<&Node>> = BTreeMap::new();
    let mut roots = Vec::new();
    // a copy with another header has the digest of the first
    let here = |digest: &String| nodes.iter().any(|node| node.lineage == *digest);
    for node in nodes {
        match &node.outline.parent {
            Some(parent) if here(parent) => children.entry(parent).or_default().push(node),
            _ => roots.push(node),
        }
    }
    let mut lines = Vec::new();
    let mut stack: Vec<(&Node, String, String)> = roots
        .into_iter()
        .rev()
        .map(|node| (node, String::new(), String::new()))
        .collect();
    while let Some((node, before, below)) = stack.pop() {
        lines.push(format!("{before}{}", node.line(!below.is_empty())));
        // of copies, the first has the children
        let own = children.remove(node.lineage.as_str()).unwrap_or_default();
        for (index, child) in own.iter().enumerate().rev() {
            let (mark, bar) = match index + 1 == own.len() {
                true => ("└─ ", "   "),
                false => ("├─ ", "│  "),
            };
            stack.push((child, format!("{below}{mark}"), format!("{below}{bar}")));
        }
    }
    lines
}

impl Node {
    fn read(path: PathBuf) -> Result<Self> {
        let file = SourceFile::open(&path)?;
        let read = || {
            let untrusted = Untrusted::read_at(&file, &Limits::default())?;
            Ok(Self {
                claims: untrusted.claims().clone(),
                outline: untrusted.outline()?,
                lineage: untrusted.lineage()?.to_string(),
                bytes: untrusted.file_len(),
                path: path.clone(),
            })
        };
        read().map_err(|error| input::at(error, &path))
    }

    fn line(&self, below_parent: bool) -> String {
        let (terms, positions) = (&self.claims.terms, &self.outline.positions);
        let mut line = format!(
            "{}  {}..{}  {}  until {}",
            quoted(&self.path.display().to_string()),
            positions.start,
            positions.end,
            bytes(self.bytes),
            time::show_instant(terms.expires),
        );
        if self.outline.base {
            line.push_str("  base image");
        }
        if let Some(subject) = &terms.subject {
            line.push_str(&format!("  {subject:?}"));
        }
        match &self.outline.parent {
            Some(parent) if !below_parent => {
                let short: String = parent.chars().take(16).collect();
                line.push_str(&format!("  parent {short}… is not here"));
            }
            _ => {}
        }
        line
    }

    fn json(&self) -> serde_json::Value {
        let (terms, outline) = (&self.claims.terms, &self.outline);
        json!({
            "path": self.path.display().to_string(),
            "capsule_id": self.claims.id.to_string(),
            "lineage": self.lineage,
            "parent": outline.parent,
            "base": outline.base,
            "positions": [outline.positions.start, outline.positions.end],
            "issuer": terms.issuer,
            "subject": terms.subject,
            "scope": terms.scope,
            "issued_at": terms.issued_at,
            "expires": terms.expires,
            "file_bytes": self.bytes,
        })
    }
}
