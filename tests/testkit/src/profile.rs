//! Profiles of codecs out of whole numbers, written as codecs-v1 §12.7 says.
#![allow(
    clippy::cast_possible_truncation,
    reason = "counts and cells are made small here"
)]

/// A bank of a made profile.
pub struct Entry {
    /// Layer.
    pub layer: u32,
    /// Number of the role.
    pub role: u8,
    /// Transform.
    pub transform: u8,
    /// Heads.
    pub heads: u16,
    /// Elements of a head.
    pub dim: u16,
    /// Shift of each component.
    pub shifts: Vec<u8>,
}

impl Entry {
    /// A bank with shifts of 0, 1 and 3.
    #[must_use]
    pub fn new(layer: u32, role: u8, transform: u8, heads: u16, dim: u16) -> Self {
        let channels = usize::from(heads) * usize::from(dim);
        let shifts = (0..channels).map(|at| [0, 1, 3][at % 3]).collect();
        Self {
            layer,
            role,
            transform,
            heads,
            dim,
            shifts,
        }
    }

    fn group(&self) -> usize {
        let heads = if self.transform == 1 { 1 } else { self.heads };
        usize::from(heads) * usize::from(self.dim)
    }

    /// A reflection I − 2vvᵀ / vᵀv of the group, in whole numbers of 1/100; it is its own inverse.
    fn reflection(&self) -> Vec<f64> {
        let count = self.group();
        let v: Vec<f64> = (0..count)
            .map(|at| f64::from((at * 7 % 11) as u8) - 4.5)
            .collect();
        let square: f64 = v.iter().map(|x| x * x).sum();
        let cell = |at: usize| {
            let (row, column) = (at / count, at % count);
            let one = if row == column { 1.0 } else { 0.0 };
            one - 2.0 * v[row] * v[column] / square
        };
        (0..count * count).map(cell).collect()
    }
}

/// A file of these banks and points: KL in 1e-9 nat and a rate for each bank.
#[must_use]
pub fn made(model: [u8; 32], entries: &[Entry], points: &[(u32, Vec<u16>)]) -> Vec<u8> {
    let mut out = b"KVTCPROF".to_vec();
    let counts = [1, entries.len() as u16, points.len() as u16, 0];
    out.extend(counts.iter().flat_map(|n| n.to_le_bytes()));
    out.extend(model);
    for entry in entries {
        out.extend(entry.layer.to_le_bytes());
        out.extend([entry.role, entry.transform]);
        out.extend(
            [entry.heads, entry.dim, 0]
                .iter()
                .flat_map(|n| n.to_le_bytes()),
        );
    }
    for (kl, rates) in points {
        out.extend(kl.to_le_bytes());
        out.extend(rates.iter().flat_map(|rate| rate.to_le_bytes()));
    }
    for entry in entries {
        let channels = usize::from(entry.heads) * usize::from(entry.dim);
        // a bank without channels is no profile's, and can be written all the same
        let groups = channels.checked_div(entry.group()).unwrap_or(0);
        let matrix = entry.reflection();
        let means = (0..channels).map(|at| (at % 7) as f32 / 4.0 - 0.5);
        out.extend(means.flat_map(f32::to_le_bytes));
        out.extend(&entry.shifts);
        let whole = |scale: f64| matrix.iter().map(move |cell| (cell * scale).round());
        for _ in 0..groups {
            out.extend(whole(100.0).map(|cell| (cell as i8).to_le_bytes()[0]));
        }
        let scale = |shift: &u8| 1.0 / (100.0 * 30_000.0 * f32::from(1_u16 << shift));
        out.extend(entry.shifts.iter().map(scale).flat_map(f32::to_le_bytes));
        for _ in 0..groups {
            out.extend(whole(30_000.0).flat_map(|cell| (cell as i16).to_le_bytes()));
        }
    }
    out
}
