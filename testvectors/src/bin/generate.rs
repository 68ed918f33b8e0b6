//! Writes `vectors/` and the specification's worked example again.

use std::{fs, io, io::Write as _, path::Path};

fn main() -> io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let count = kvcap_testvectors::generate::write(&here.join("vectors"))?;
    let example = kvcap_testvectors::example::text();
    fs::write(here.join("../spec/example.md"), example)?;
    writeln!(io::stdout(), "{count} files in vectors/")
}
