// BLAKE3 in its two modes (capsule-v1 §1), and the digests with a label of their own (§4).

import { blake3 } from "@noble/hashes/blake3.js";
import { type Bytes, concat, text, u32, u64 } from "./bytes.js";

/** B3(label, m, n): key derivation. */
export function b3(label: string, material: Uint8Array, length = 32): Bytes {
  return new Uint8Array(blake3(material, { context: text(label), dkLen: length }));
}

/** KB3(k, m, n): keyed. */
export function kb3(key: Uint8Array, message: Uint8Array, length = 32): Bytes {
  return new Uint8Array(blake3(message, { key, dkLen: length }));
}

export const signKeyId = (key: Uint8Array): Bytes => b3("kvcap v1 sign key id", key, 16);
export const rootKeyId = (key: Uint8Array): Bytes => b3("kvcap v1 root key id", key, 16);
export const chunkDigest = (ciphertext: Uint8Array): Bytes => b3("kvcap v1 leaf", ciphertext);
export const tableDigest = (stream: number, rows: Uint8Array): Bytes =>
  b3("kvcap v1 table", concat(u32(stream), rows));
export const rootsDigest = (payload: Uint8Array): Bytes => b3("kvcap v1 roots", payload);
export const registryDigest = (file: Uint8Array): Bytes => b3("kvcap v1 registry", file);

/** The prefix value P of token ids (capsule-v1 §6.5). */
export function prefixValue(tokens: readonly number[]): Bytes {
  let chain: Bytes = new Uint8Array(32);
  for (let at = 0; at < tokens.length; at += 256) {
    chain = b3("kvcap v1 prefix block", concat(chain, ...tokens.slice(at, at + 256).map(u32)));
  }
  return b3("kvcap v1 prefix", concat(chain, u64(BigInt(tokens.length))));
}
