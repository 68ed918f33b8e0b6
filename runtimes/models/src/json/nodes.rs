//! The places of values in a JSON text: 8 bytes each.

/// Where a value begins in the text, and the first node that is not of it.
#[derive(Clone, Copy)]
pub(super) struct Node {
    pub(super) start: u32,
    pub(super) next: u32,
}

/// Nodes in blocks, so that growing copies none.
#[derive(Default)]
pub(super) struct Nodes(Vec<Vec<Node>>);

const BLOCK: usize = 1 << 12;

impl Nodes {
    pub(super) fn push(&mut self, node: Node) -> Option<u32> {
        if self.0.last().is_none_or(|block| block.len() == BLOCK) {
            self.0.push(Vec::with_capacity(BLOCK));
        }
        let index = u32::try_from((self.0.len() - 1) * BLOCK + self.0.last()?.len()).ok()?;
        self.0.last_mut()?.push(node);
        Some(index)
    }

    /// Ends the value of node `at`: what comes next is not of it.
    pub(super) fn close(&mut self, at: u32) {
        let blocks = self.0.len().saturating_sub(1);
        let next = blocks * BLOCK + self.0.last().map_or(0, Vec::len);
        let place = usize::try_from(at).unwrap_or(usize::MAX);
        let node = self.0.get_mut(place / BLOCK);
        if let Some(node) = node.and_then(|block| block.get_mut(place % BLOCK)) {
            node.next = u32::try_from(next).unwrap_or(u32::MAX);
        }
    }

    pub(super) fn get(&self, at: u32) -> Option<Node> {
        let at = usize::try_from(at).ok()?;
        self.0.get(at / BLOCK)?.get(at % BLOCK).copied()
    }
}
