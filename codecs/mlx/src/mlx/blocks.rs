//! Exact banks of MLX's arrays: a frame's bytes where they lie, and caches that are kept in blocks (pages), gathered
//! and scattered on the device.

use mlx_rs::{Array, Dtype, ops, ops::indexing::TryIndexMutOp, transforms};

use super::{
    arrays::exclusive,
    error::{Error, Result, size},
    pack::take,
};

const UNSERVED: Error = Error::Unserved("these blocks do not hold such a bank");

/// Returns the encoded frame of codec `raw` for a frame's elements of any type: its bytes in row-major order, as
/// `uint8`. `as_slice` reads them in the memory that the device shares with the host.
///
/// # Errors
/// Where MLX fails.
pub fn exact_encode(frame: &Array) -> Result<Array> {
    let _turn = exclusive();
    let bytes = frame
        .flatten(None, None)?
        .contiguous()?
        .view_dtype(Dtype::Uint8)?;
    transforms::eval([&bytes])?;
    Ok(bytes)
}

/// Restores elements of `dtype` in `shape` from such bytes.
///
/// # Errors
/// Where the bytes are not of `uint8` or not as many as the shape has, or MLX fails.
pub fn exact_decode(bytes: &Array, shape: &[i32], dtype: Dtype) -> Result<Array> {
    if bytes.dtype() != Dtype::Uint8 {
        return Err(Error::Unserved("an exact frame is bytes"));
    }
    let _turn = exclusive();
    let frame = bytes
        .flatten(None, None)?
        .view_dtype(dtype)?
        .reshape(shape)?;
    transforms::eval([&frame])?;
    Ok(frame)
}

/// Gathers the blocks of `table`, out of `blocks` `[blocks, heads, size, dim]`, to a bank `[heads, tokens, dim]`: the
/// first `tokens` rows of these blocks one after the other.
///
/// # Errors
/// Where the table names a block that there is not, or its blocks hold fewer tokens or whole blocks more; where MLX
/// fails.
pub fn gather(blocks: &Array, table: &[u32], tokens: usize) -> Result<Array> {
    let [_, heads, length, dim] = checked(blocks, table, tokens)?;
    let _turn = exclusive();
    let table_len = size(table.len())?;
    let rows = blocks
        .take_axis(Array::from_slice(table, &[table_len]), 0)?
        .transpose_axes(&[1, 0, 2, 3])?
        .reshape(&[heads, table_len * length, dim])?;
    let bank = take(&rows, tokens, 1)?.contiguous()?;
    transforms::eval([&bank])?;
    Ok(bank)
}

/// Scatters a bank `[heads, tokens, dim]` to the blocks of `table`. Other blocks, and rows of the last one behind the
/// bank's last token, stay as they are.
///
/// # Errors
/// As [`gather`]; where a block is named twice, or the bank has another type, heads or dim than the blocks.
pub fn scatter(blocks: &mut Array, table: &[u32], bank: &Array) -> Result<()> {
    let &[heads, tokens, dim] = bank.shape() else {
        return Err(UNSERVED);
    };
    let of_bank = usize::try_from(tokens).map_err(|_| UNSERVED)?;
    let [_, own_heads, length, own_dim] = checked(blocks, table, of_bank)?;
    let mut named = table.to_vec();
    named.sort_unstable();
    let twice = named
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a == b));
    if twice || (heads, dim) != (own_heads, own_dim) || bank.dtype() != blocks.dtype() {
        return Err(UNSERVED);
    }
    let _turn = exclusive();
    let table_len = size(table.len())?;
    let table = Array::from_slice(table, &[table_len]);
    let old = blocks
        .take_axis(&table, 0)?
        .transpose_axes(&[1, 0, 2, 3])?
        .reshape(&[heads, table_len * length, dim])?;
    let kept = ops::split_at_indices(&old, &[tokens], 1)?.pop();
    let rows = match kept {
        Some(kept) if kept.dim(1) > 0 => ops::concatenate(&[bank, &kept], 1)?,
        _ => bank.clone(),
    };
    let rows = rows
        .reshape(&[heads, table_len, length, dim])?
        .transpose_axes(&[1, 0, 2, 3])?;
    blocks.try_index_mut(table, &rows)?;
    transforms::eval([&*blocks])?;
    Ok(())
}

/// The extent of blocks, of which those of the table hold so many tokens and no whole block more.
fn checked(blocks: &Array, table: &[u32], tokens: usize) -> Result<[i32; 4]> {
    let extent = <[i32; 4]>::try_from(blocks.shape()).map_err(|_| UNSERVED)?;
    let [count, _, length, _] = extent;
    let length = usize::try_from(length).map_err(|_| UNSERVED)?;
    let there = |block: &u32| i64::from(*block) < i64::from(count);
    let needed = tokens.checked_div(length).ok_or(UNSERVED)? + usize::from(tokens % length != 0);
    if tokens == 0 || blocks.size() == 0 || table.len() != needed || !table.iter().all(there) {
        return Err(UNSERVED);
    }
    Ok(extent)
}
