// From claims, context and content key to the keys of the streams (capsule-v1 §9.1, §9.2).

import { type Bytes, concat, u32 } from "./bytes.js";
import type { Claims } from "./envelope.js";
import { b3, kb3 } from "./hashes.js";
import type { Manifest } from "./manifest.js";

export function context(claims: Claims, manifest: Manifest): Bytes {
  const { fixed } = claims;
  const { rawContext } = manifest;
  return b3("kvcap v1 context", concat(u32(fixed.length), fixed, u32(rawContext.length), rawContext));
}

export function commitment(contentKey: Uint8Array, salt: Uint8Array, ctx: Uint8Array): Bytes {
  return b3("kvcap v1 commitment", concat(contentKey, salt, ctx));
}

export interface StreamKey {
  key: Bytes;
  base: Bytes;
}

/** Derives the key and the base of the nonces of each stream. */
export function streamKeys(contentKey: Uint8Array, salt: Uint8Array, ctx: Uint8Array): (stream: number) => StreamKey {
  const root = b3("kvcap v1 streams", concat(contentKey, salt, ctx));
  return (stream) => {
    const both = kb3(root, u32(stream), 44);
    return { key: both.slice(0, 32), base: both.slice(32) };
  };
}
