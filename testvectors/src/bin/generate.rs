//! Writes `vectors/`, `codec/vectors.json` and the specification's worked example again.

use std::{fs, io, io::Write as _, path::Path};

fn main() -> io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let count = kvcap_testvectors::generate::write(&here.join("vectors"))?;
    fs::write(
        here.join("codec/vectors.json"),
        kvcap_testvectors::codec_set::text(),
    )?;
    let example = kvcap_testvectors::example::text();
    fs::write(here.join("../spec/example.md"), example)?;
    writeln!(io::stdout(), "{count} files in vectors/")
}
