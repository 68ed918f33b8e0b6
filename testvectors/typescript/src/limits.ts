// Limits of capsule-v1 §10; a caller may lower them.

export interface Limits {
  envelope: number;
  tables: bigint;
  streams: number;
  recipients: number;
  layers: number;
  adapters: number;
  dimensions: number;
  /** Members of a chain. */
  chain: number;
  /** Sum of plain lengths, over a chain. */
  budget: bigint | null;
}

export const LIMITS: Limits = {
  envelope: 1 << 20,
  tables: 64n << 20n,
  streams: 4096,
  recipients: 16,
  layers: 65536,
  adapters: 64,
  dimensions: 8,
  chain: 64,
  budget: null,
};

export const MAX_U64 = (1n << 64n) - 1n;
export const MAX_U32 = (1n << 32n) - 1n;
