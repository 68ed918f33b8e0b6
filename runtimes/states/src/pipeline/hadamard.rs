//! The Hadamard rotation that llama.cpp puts on its quantized caches: bound when sealed, compared when opened.

use kvcap::{BankEntry, Code, Context, Error, Result};
use kvcap_codecs::{BankShape, Dtype};
use kvcap_models::hadamard_block;

use crate::{
    pipeline::whole::WholeBank,
    state::{Placed, State},
};

/// The block of the rotation that is on the rows of a bank, 0 for none: as the file says it, otherwise
/// by llama.cpp's own rule, unless the caller says that it was off.
///
/// # Errors
/// KVC-923 where the caller says otherwise than the file.
pub(crate) fn block(placed: &Placed, runtime: &str, said: Option<bool>) -> Result<u32> {
    let bank = &placed.bank;
    let own = own_block(bank.role, &bank.shape, bank.dtype, runtime);
    match placed.hadamard {
        Some(block) if contradicts(block, own, said) => Err(Error::new(
            Code::StateContradiction,
            "the file and the options differ in whether the cache is rotated",
        )
        .at(placed.name())
        .sides(option(said), format_args!("blocks of {block} in the file"))),
        Some(block) => Ok(block),
        None if said == Some(false) => Ok(0),
        None => Ok(own),
    }
}

/// The block by the runtime's own rule.
pub(crate) fn own_block(role: kvcap::Role, shape: &BankShape, dtype: Dtype, runtime: &str) -> u32 {
    match shape {
        BankShape::Tokens { dim, .. } if runtime == "llama.cpp" => {
            hadamard_block(role, *dim, dtype)
        }
        _ => 0,
    }
}

/// Compares the rotation of a capsule's quantized banks with what the runtime that shall restore it is told:
/// `Some(true)` where it rotates by its own rule, `Some(false)` where it does not, `None` where nobody says.
///
/// # Errors
/// KVC-604 where they differ (RUN-L-14).
pub fn check_rotation(context: &Context, said: Option<bool>) -> Result<()> {
    let runtime = &context.runtime.name;
    let other = |bank: &&BankEntry| {
        let own = own_block(bank.role, &bank.shape, bank.dtype, runtime);
        contradicts(bank.hadamard, own, said)
    };
    match context.banks().map(|(_, bank)| bank).find(other) {
        None => Ok(()),
        Some(bank) => Err(Error::new(
            Code::BindingLayout,
            "the capsule and the runtime differ in whether the quantized cache is rotated",
        )
        .at(format_args!("layer {} {}", bank.layer, bank.role.name()))
        .sides(
            option(said),
            format_args!("blocks of {} in the capsule", bank.hadamard),
        )),
    }
}

/// Compares what the file that is written back says of its banks with what the manifest says of them.
///
/// # Errors
/// KVC-923 (RUN-R-16).
pub(crate) fn check_written<S>(banks: &[WholeBank<'_, S>], state: &State) -> Result<()> {
    for (held, placed) in banks.iter().zip(&state.banks) {
        let bound = held.parts.first().map_or(0, |part| part.bank.hadamard);
        if let Some(block) = placed.hadamard.filter(|block| *block != bound) {
            let what = "the file and the manifest differ in the rotation of a bank";
            return Err(Error::new(Code::StateContradiction, what)
                .at(placed.name())
                .sides(
                    format_args!("blocks of {bound}"),
                    format_args!("blocks of {block} in the file"),
                ));
        }
    }
    Ok(())
}

fn contradicts(block: u32, own: u32, said: Option<bool>) -> bool {
    match said {
        Some(true) => block == 0 && own > 0,
        Some(false) => block > 0,
        None => false,
    }
}

fn option(said: Option<bool>) -> &'static str {
    match said {
        Some(true) => "hadamard=on",
        _ => "hadamard=off",
    }
}
