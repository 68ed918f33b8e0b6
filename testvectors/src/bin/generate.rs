//! Writes `vectors/`, `codec/vectors.json.gz`, `session/vectors.json.gz`, `beside/vectors.json` and the specification's worked example again.

use std::{fs, io, io::Write as _, path::Path};

use kvcap_testvectors::{beside_set, codec_set, session_set};

fn main() -> io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let count = kvcap_testvectors::generate::write(&here.join("vectors"))?;
    let codecs = codec_set::text();
    kvcap_testvectors::generate::store(Path::new(codec_set::FILE), codecs.as_bytes())?;
    let sessions = session_set::text();
    kvcap_testvectors::generate::store(Path::new(session_set::FILE), sessions.as_bytes())?;
    let beside = beside_set::text();
    kvcap_testvectors::generate::store(Path::new(beside_set::FILE), beside.as_bytes())?;
    let example = kvcap_testvectors::example::text();
    fs::write(here.join("../spec/example.md"), example)?;
    writeln!(io::stdout(), "{count} files in vectors/")
}
