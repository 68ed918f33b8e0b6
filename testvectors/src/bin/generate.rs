//! Writes `vectors/` and the specification's worked example again.

use std::{io, io::Write as _, path::Path};

fn main() -> io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let count = kvcap_testvectors::generate::write(&here.join("vectors"))?;
    writeln!(io::stdout(), "{count} files in vectors/")
}
