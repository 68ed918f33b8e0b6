// COSE_Sign1 as a capsule and a registry use it (capsule-v1 §5), and the claims.

import { type Bytes, concat, text } from "./bytes.js";
import { type Item, Reader } from "./cbor.js";
import { Fields } from "./fields.js";
import { refuse, require } from "./refusal.js";

/** What the protected header of one kind of file says. */
export interface Profile {
  labels: readonly number[];
  contentType: string;
  type: string;
}

export const CAPSULE: Profile = {
  labels: [1, 3, 4, 15, 16],
  contentType: "application/vnd.kvcap.manifest+cbor",
  type: "application/vnd.kvcap",
};

export const REGISTRY: Profile = {
  labels: [1, 3, 4, 16],
  contentType: "application/vnd.kvcap.keys+cbor",
  type: "application/vnd.kvcap.registry",
};

export const TIMESTAMP: Profile = {
  labels: [1, 3, 4, 16],
  contentType: "application/vnd.kvcap.timestamp+cbor",
  type: "application/vnd.kvcap.timestamp",
};

export interface Envelope {
  /** Raw bytes of the protected header. */
  header: Uint8Array;
  payload: Uint8Array;
  signature: Uint8Array;
  kid: Uint8Array;
  /** Label 15, where the profile has it. */
  claims: Item | undefined;
}

/** CAP-E-1 … CAP-E-8. */
export function readEnvelope(bytes: Uint8Array, profile: Profile): Envelope {
  const reader = new Reader(bytes);
  if (reader.byte() !== 0xd2) refuse(210);
  reader.at += 1;
  if (reader.byte() === 0x9f) refuse(202);
  if (reader.byte() !== 0x84) refuse(210);
  reader.at += 1;

  const header = byteString(reader);
  require(header.length > 0, 214);
  const unprotected = reader.byte();
  if (unprotected !== 0xa0) refuse(unprotected >> 5 === 5 ? 211 : 210);
  reader.at += 1;
  if (reader.byte() === 0xf6) refuse(217);
  const payload = byteString(reader);
  const signature = byteString(reader);
  require(signature.length === 64, 306);
  reader.finish();

  const labels = readHeader(header, profile);
  const label = (key: number): Item => labels.get(key) ?? refuse(214);
  for (const key of profile.labels) label(key);
  const alg = label(1);
  require(alg.kind === "int" && alg.value === -19n, 212);
  const contentType = label(3);
  require(contentType.kind === "text" && contentType.value === profile.contentType, 216);
  const type = label(16);
  require(type.kind === "text" && type.value === profile.type, 216);
  const kid = label(4);
  require(kid.kind === "bytes" && kid.value.length === 16, 301);
  return { header, payload, signature, kid: kid.value, claims: labels.get(15) };
}

function byteString(reader: Reader): Uint8Array {
  if (reader.byte() >> 5 !== 2) refuse(210);
  return reader.take(reader.head().argument);
}

/** CAP-E-7: each label is judged as soon as it has been read as a key. */
function readHeader(header: Uint8Array, profile: Profile): Map<number, Item> {
  const reader = new Reader(header, (key) => {
    const label = key.kind === "int" ? Number(key.value) : null;
    if (label === 2) refuse(215);
    if (label === null || !profile.labels.includes(label)) refuse(213);
  });
  if (reader.byte() >> 5 !== 5) refuse(210);
  const item = reader.item();
  reader.finish();
  const labels = new Map<number, Item>();
  if (item.kind === "map") {
    for (const [key, value] of item.entries) if (key.kind === "int") labels.set(Number(key.value), value);
  }
  return labels;
}

/** What is signed (CAP-E-10). */
export function toBeSigned(envelope: Envelope): Bytes {
  const head = (length: number): Bytes => {
    if (length < 24) return new Uint8Array([0x40 | length]);
    if (length < 1 << 8) return new Uint8Array([0x58, length]);
    if (length < 1 << 16) return new Uint8Array([0x59, length >> 8, length & 255]);
    return new Uint8Array([0x5a, length >>> 24, (length >> 16) & 255, (length >> 8) & 255, length & 255]);
  };
  const name = text("Signature1");
  return concat(
    new Uint8Array([0x84, 0x60 | name.length]),
    name,
    head(envelope.header.length),
    envelope.header,
    head(0),
    head(envelope.payload.length),
    envelope.payload,
  );
}

export interface Session {
  id: string;
  version: bigint;
  cursor: bigint;
}

export interface Claims {
  iss: string;
  sub: string | null;
  aud: string;
  exp: bigint;
  nbf: bigint;
  iat: bigint;
  cti: Uint8Array;
  scope: string;
  org: string | null;
  seq: bigint | null;
  singleUse: boolean;
  cap: bigint;
  session: Session | null;
  /** The claims that no later header changes, encoded (§9.1). */
  fixed: Bytes;
}

const [ORG, SEQ, SINGLE_USE, CAP, SESSION, VERSION, CURSOR] = [-70001, -70002, -70003, -70004, -70005, -70006, -70007];
const OUTSIDE_CTX = [3, 4, 6, 9];

/** CAP-E-9. */
export function readClaims(item: Item, header: Uint8Array): Claims {
  const fields = new Fields(401);
  const required = [1, 3, 4, 5, 6, 7, 9, CAP];
  const map = fields.map(item, required, [2, ORG, SEQ, SINGLE_USE, SESSION, VERSION, CURSOR]);
  const need = (label: number): Item => map.get(label) ?? refuse(401);
  const maybe = <T>(label: number, read: (found: Item) => T): T | null => {
    const found = map.get(label);
    return found === undefined ? null : read(found);
  };
  const claim = (found: Item): string => fields.text(found, 1);
  const uint = (found: Item): bigint => fields.uint(found);
  const [id, version, cursor] = [maybe(SESSION, claim), maybe(VERSION, uint), maybe(CURSOR, uint)];
  const all = id !== null && version !== null && cursor !== null;
  require(all || (id === null && version === null && cursor === null), 401);
  return {
    iss: claim(need(1)),
    sub: maybe(2, claim),
    aud: claim(need(3)),
    exp: uint(need(4)),
    nbf: uint(need(5)),
    iat: uint(need(6)),
    cti: fields.bytes(need(7), 16),
    scope: claim(need(9)),
    org: maybe(ORG, claim),
    seq: maybe(SEQ, uint),
    singleUse: maybe(SINGLE_USE, (found) => fields.oneOf(found, 1)) !== null,
    cap: uint(need(CAP)),
    session: all ? { id, version, cursor } : null,
    fixed: fixedClaims(item, header),
  };
}

/** The map of the claims without those that are outside ctx, in the same encoding. */
function fixedClaims(item: Item, header: Uint8Array): Bytes {
  if (item.kind !== "map") return refuse(401);
  const kept = item.entries.filter(([key]) => key.kind === "int" && !OUTSIDE_CTX.includes(Number(key.value)));
  const pairs = kept.map(([key, value]) => header.subarray(key.start, value.end));
  return concat(new Uint8Array([0xa0 | kept.length]), ...pairs);
}
