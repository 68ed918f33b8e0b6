//! Freezes vectors in a new folder of `frozen/`: `freeze v1.0`. A folder that is there is left alone.

use std::{env, io, io::Write as _, path::Path};

use kvcap_testvectors::frozen::{FROZEN, KINDS, freeze, index};

fn main() -> io::Result<()> {
    let Some(name) = env::args().nth(1) else {
        return Err(io::Error::other("freeze NAME"));
    };
    freeze(&Path::new(FROZEN).join(&name), &KINDS)?;
    writeln!(io::stdout(), "{name}: {}", index(&name).0)
}
