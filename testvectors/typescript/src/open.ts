// Opening one verified capsule (capsule-v1 §3.3, steps 22 to 27, and §9.4).

import { webcrypto } from "node:crypto";
import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { type Bytes, concat, equal, text, u32, u64, view } from "./bytes.js";
import { sectionsOf } from "./consistent.js";
import { b3, kb3, prefixValue } from "./hashes.js";
import { refuse, require } from "./refusal.js";
import { type WrappingKey, unwrap } from "./recipients.js";
import { commitment, type StreamKey, streamKeys } from "./schedule.js";
import { SECTION } from "./stream.js";
import { type Chunk, checkEnd, checkedChunk, checkPadding, checkTable, type StreamPlace, type Verified } from "./verify.js";

export interface StreamRange {
  stream: number;
  start: bigint;
  end: bigint;
}

/** A capsule whose content key is unwrapped and committed to, and whose prefix has been compared. */
export class Opened {
  private constructor(
    readonly capsule: Verified,
    private readonly keys: (stream: number) => StreamKey,
    /** P, where the prompt is named, and its token ids, where they are sealed. */
    readonly prefix: Uint8Array | null,
    readonly tokens: number[] | null,
  ) {}

  /** Steps 22 to 25. */
  static async open(capsule: Verified, key: WrappingKey): Promise<Opened> {
    require(capsule.file.length >= capsule.prologue.bodyAt, 106);
    checkEnd(capsule);
    checkPadding(capsule);
    const { manifest, ctx } = capsule;
    const contentKey = unwrap(manifest.recipients, key, capsule.claims.cti, manifest.suite);
    require(equal(commitment(contentKey, manifest.salt, ctx), manifest.commitment), 804);
    const keys = streamKeys(contentKey, manifest.salt, ctx);
    const bare = new Opened(capsule, keys, null, null);
    const section = async (kind: number): Promise<Uint8Array | null> => {
      const [found] = sectionsOf(manifest, kind);
      return found === undefined ? null : bare.stream(manifest.streams.indexOf(found));
    };
    const prefix = await section(SECTION.prefix);
    const tokens = await section(SECTION.tokens);
    const ids = tokens === null ? null : tokenIds(tokens);
    if (prefix !== null) checkPrefix(capsule, key, prefix, ids);
    return new Opened(capsule, keys, prefix, ids);
  }

  /** The encoded bytes of one stream. */
  async stream(index: number): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    const place = this.capsule.places[index] ?? refuse(810);
    for await (const part of this.read({ stream: index, start: 0n, end: BigInt(place.length) })) parts.push(part);
    return concat(...parts);
  }

  /** Gives out a range chunk by chunk, each after its digest and its tag have passed (CAP-A-2). */
  async *read(range: StreamRange): AsyncGenerator<Uint8Array> {
    const place = this.capsule.places[range.stream] ?? refuse(810);
    require(range.start <= range.end && range.end <= BigInt(place.length), 810);
    checkTable(this.capsule.file, place);
    const [start, end] = [Number(range.start), Number(range.end)];
    const key = this.keys(place.index);
    for (let i = Math.floor(start / place.chunkLen); i * place.chunkLen < end && start < end; i++) {
      const plain = await openChunk(this.capsule, place, key, checkedChunk(this.capsule.file, place, i));
      const from = i * place.chunkLen;
      yield plain.subarray(Math.max(start - from, 0), Math.min(end - from, plain.length));
    }
  }
}

async function openChunk(capsule: Verified, place: StreamPlace, key: StreamKey, chunk: Chunk): Promise<Uint8Array> {
  const nonce = key.base.slice();
  const low = view(nonce).getBigUint64(4, false) ^ BigInt(chunk.index);
  view(nonce).setBigUint64(4, low, false);
  const aad: Bytes = concat(
    text("kvcap v1 chunk"),
    u32(place.index),
    u64(BigInt(chunk.index)),
    new Uint8Array([chunk.last ? 1 : 0]),
    u32(chunk.ciphertext.length),
  );
  const sealed = concat(chunk.ciphertext, chunk.tag);
  try {
    if (capsule.manifest.suite === 1) return chacha20poly1305(key.key, nonce, aad).decrypt(sealed);
    const imported = await webcrypto.subtle.importKey("raw", key.key, "AES-GCM", false, ["decrypt"]);
    const algorithm = { name: "AES-GCM", iv: nonce, additionalData: aad, tagLength: 128 };
    return new Uint8Array(await webcrypto.subtle.decrypt(algorithm, imported, sealed));
  } catch {
    return refuse(806);
  }
}

function tokenIds(bytes: Uint8Array): number[] {
  const fields = view(bytes);
  return Array.from({ length: bytes.length / 4 }, (_, i) => fields.getUint32(4 * i, true));
}

/** CAP-P-2. */
function checkPrefix(capsule: Verified, key: WrappingKey, value: Uint8Array, tokens: number[] | null): void {
  const { prefix } = capsule.manifest;
  if (prefix.scheme === 2) require(equal(value, prefix.commitment), 605);
  if (prefix.scheme === 1) {
    const prefixKey = b3("kvcap v1 prefix key", key.secret);
    const known = equal(b3("kvcap v1 prefix key id", prefixKey, 16), prefix.keyId);
    require(!known || equal(kb3(prefixKey, value), prefix.commitment), 605);
  }
  require(tokens === null || equal(prefixValue(tokens), value), 605);
}
