//! `kvcap base push`, `pull` and `list IMAGE`: base images in registries of containers (oci-v1).

use std::path::{Path, PathBuf};

use crate::flags::{AuthoritiesArgs, PolicyArgs, Threads};
#[cfg(feature = "server")]
use crate::{flags::Common, ui::Report};

/// Pushes a base image into a registry of containers
///
/// It is an OCI artifact of one layer, the capsule as it is. The registry is asked over HTTPS, on this machine over HTTP.
/// What it has already is not sent again.
#[derive(Debug, clap::Args)]
pub(crate) struct PushArgs {
    /// The capsule
    capsule: PathBuf,
    /// Its place: HOST/NAME:TAG
    image: String,
    /// Attach it to this image of the same HOST/NAME, by a tag or a digest: kvcap base list finds it there
    #[arg(long, value_name = "IMAGE")]
    subject: Option<String>,
    #[command(flatten)]
    who: WhoArgs,
    #[command(flatten)]
    authorities: AuthoritiesArgs,
}

/// Pulls a base image from a registry of containers, and verifies it
///
/// Every byte is verified as by `kvcap verify` before a file appears. The digest that is printed names these bytes for
/// good, where a tag may be moved: HOST/NAME@sha256:DIGEST pulls them and nothing else.
#[derive(Debug, clap::Args)]
pub(crate) struct PullArgs {
    /// Its place: HOST/NAME:TAG, or HOST/NAME@sha256:DIGEST
    image: String,
    /// The capsule to write; - for stdout
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Replace OUT if it exists
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    who: WhoArgs,
    #[command(flatten)]
    authorities: AuthoritiesArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    threads: Threads,
}

/// Who asks a registry of containers.
#[derive(Debug, clap::Args)]
pub(super) struct WhoArgs {
    /// A file like Docker's config.json, with name and password for HOST [default: nobody in particular]
    #[arg(long, value_name = "FILE", requires = "image")]
    auth_file: Option<PathBuf>,
}

impl PullArgs {
    pub(crate) fn output(&self) -> &Path {
        &self.output
    }
}

#[cfg(feature = "server")]
pub(crate) use asking::{list, pull, push};

#[cfg(feature = "server")]
mod asking {
    use std::fs::File;

    use kvcap::{Limits, Result, SourceFile, Untrusted};
    use kvcap_server::{Image, ImageReference, ImageRegistry, Referrers};
    use kvcap_store::{
        Ancestors,
        output::{Output, Readers},
    };

    use serde_json::json;

    use super::{AuthoritiesArgs, Common, PullArgs, PushArgs, Report, WhoArgs};
    use crate::ui::{bytes, progress, usage, verdict};

    /// Longest capsule that is pulled: what a relay takes.
    const MOST: u64 = 16 << 30;

    /// # Errors
    /// KVC-944 for what is no base image; 940 where the registry refuses.
    pub(crate) fn push(args: &PushArgs) -> Result<Report> {
        let capsule = SourceFile::open(&args.capsule)?;
        let untrusted = Untrusted::read_at(&capsule, &Limits::default())
            .map_err(|error| error.at(args.capsule.display()))?;
        if !untrusted.outline()?.base {
            return usage("this is no base image: seal it with --base", "CAPSULE");
        }
        let (reference, mut registry) = args.who.registry(&args.image, &args.authorities)?;
        let subject = args.subject.as_deref().map(str::parse).transpose()?;
        let pushed = registry.push(capsule.file(), subject.as_ref())?;
        let mut report = Report::new();
        name(&reference, &pushed, &mut report);
        Ok(report)
    }

    /// # Errors
    /// Those of `kvcap verify`; KVC-944 for what is no base image; 940 where the registry refuses, or gives something else.
    pub(crate) fn pull(args: &PullArgs, common: &Common) -> Result<Report> {
        let (reference, mut registry) = args.who.registry(&args.image, &args.authorities)?;
        let output = Output::create(&args.output, args.force, Readers::Umask)?;
        let pulled = registry.pull(output.file(), MOST)?;
        let mut report = Report::new();
        check(output.file(), args, common, &mut report)?;
        output.commit()?;
        name(&reference, &pulled, &mut report);
        report.row("written", args.output.display());
        Ok(report)
    }

    /// # Errors
    /// KVC-940 where there is no such image, or the registry refuses; 910 for a list that is too long.
    pub(crate) fn list(
        image: &str,
        who: &WhoArgs,
        authorities: &AuthoritiesArgs,
    ) -> Result<Report> {
        let (reference, mut registry) = who.registry(image, authorities)?;
        let Referrers { subject, images } = registry.referrers()?;
        let mut report = Report::new();
        for image in &images {
            report.line(format_args!("{}  {}", image.digest, bytes(image.bytes)));
        }
        let told = images
            .iter()
            .map(|image| json!({"digest": image.digest, "bytes": image.bytes}));
        report.fact("images", told.collect::<Vec<_>>());
        report.fact("image", reference.to_string());
        report.fact("digest", subject);
        Ok(report)
    }

    /// Verifies all of it, as `kvcap verify` does.
    fn check(file: &File, args: &PullArgs, common: &Common, report: &mut Report) -> Result<()> {
        let failed = |error| kvcap::Error::source(&error, args.output.display());
        let file = file.try_clone().and_then(SourceFile::new).map_err(failed)?;
        let untrusted = Untrusted::read_at(&file, &Limits::default())?;
        let verifier = args.policy.verifier()?;
        let model = args.policy.model(common)?;
        let mut judge = args.policy.judge(&verifier, model.as_ref(), None)?;
        let verdict = judge.verify(untrusted)?;
        let manifest = verdict.tip().manifest();
        if !manifest.context.base {
            return usage("this is no base image", &args.image);
        }
        args.policy.check_rotation(manifest)?;
        verdict::describe(&verdict, report);
        let ancestors = Ancestors {
            tip: &args.output,
            given: &[],
        };
        let mut verdict = judge.with_ancestors(verdict.with_source(()), &ancestors, drop)?;
        let bar = progress::bar(common.shows_progress(), "verify", verdict.tip().file_len());
        let (workers, told) = (args.threads.workers(), &mut |read| bar.inc(read));
        let checked = verdict.tip().check_body_at(&file, workers, told)?;
        bar.finish();
        verdict.body_checked(&checked);
        let accepted = judge.conclude(verdict)?;
        verdict::describe_unchecked(&judge, accepted.unchecked(), report);
        Ok(())
    }

    fn name(reference: &ImageReference, image: &Image, report: &mut Report) {
        report.row("image", reference);
        report.row("digest", &image.digest);
        report.row("size", bytes(image.bytes));
        if let Some(subject) = &image.subject {
            report.row("attached", subject);
        }
        report.fact("image", reference.to_string());
        report.fact("digest", image.digest.as_str());
        report.fact("bytes", image.bytes);
        report.fact("attached_to", image.subject.clone());
    }

    impl WhoArgs {
        fn registry(
            &self,
            image: &str,
            authorities: &AuthoritiesArgs,
        ) -> Result<(ImageReference, ImageRegistry)> {
            let reference: ImageReference = image.parse()?;
            let (credentials, authorities) = (self.auth_file.as_deref(), authorities.file());
            let registry = ImageRegistry::of(reference.clone(), credentials, authorities)?;
            Ok((reference, registry))
        }
    }
}
