//! `kvcap`: seal, verify and open KV capsules.

fn main() {}
