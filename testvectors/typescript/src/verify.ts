// Verifying one capsule with public keys (capsule-v1 §3.2).

import { equal, isZero } from "./bytes.js";
import { chunkCount, checkConsistent } from "./consistent.js";
import { CAPSULE, type Claims, type Envelope, readClaims, readEnvelope, toBeSigned } from "./envelope.js";
import { chunkDigest, tableDigest } from "./hashes.js";
import { type Manifest, readManifest } from "./manifest.js";
import { checkBinding, checkFor, checkKey, checkTimes, type Policy } from "./policy.js";
import { envelopeBytes, type Prologue, readPrologue, ROW } from "./prologue.js";
import { refuse, require } from "./refusal.js";
import { context } from "./schedule.js";
import { verifySignature } from "./signature.js";
import type { Trust } from "./trust.js";

/** A capsule whose prologue, envelope and claims are well formed: nothing in it is trusted. */
export interface Untrusted {
  file: Uint8Array;
  prologue: Prologue;
  envelope: Envelope;
  claims: Claims;
}

/** A capsule whose header has passed steps 1 to 10. */
export interface Verified extends Untrusted {
  manifest: Manifest;
  ctx: Uint8Array;
  /** Where each stream's table and ciphertext stand in the file. */
  places: StreamPlace[];
}

export interface StreamPlace {
  index: number;
  chunkLen: number;
  chunks: number;
  length: number;
  tableAt: number;
  bodyAt: number;
  tableDigest: Uint8Array;
}

/** Steps 1 to 3. */
export function readUntrusted(file: Uint8Array, policy: Policy): Untrusted {
  const prologue = readPrologue(file, policy.limits);
  const envelope = readEnvelope(envelopeBytes(file, prologue), CAPSULE);
  const claims = readClaims(envelope.claims ?? refuse(214), envelope.header);
  return { file, prologue, envelope, claims };
}

/** Steps 4 to 10. */
export function verifyHeader(capsule: Untrusted, trust: Trust, policy: Policy, now: bigint): Verified {
  const { envelope, claims, prologue } = capsule;
  const key = trust.find(envelope.kid, now);
  verifySignature(key.key, toBeSigned(envelope), envelope.signature);
  const manifest = readManifest(envelope.payload, policy.limits);
  checkConsistent(manifest, claims, prologue);
  checkKey(key, claims, manifest.suite, trust, policy, now);
  checkTimes(claims, policy, now);
  checkFor(claims, policy);
  checkBinding(claims, manifest, policy);
  return { ...capsule, manifest, ctx: context(claims, manifest), places: placesOf(manifest, prologue) };
}

/** What time changes (CAP-V-11). */
export function verifyAgain(capsule: Verified, trust: Trust, policy: Policy, now: bigint): void {
  const key = trust.find(capsule.envelope.kid, now);
  checkKey(key, capsule.claims, capsule.manifest.suite, trust, policy, now);
  checkTimes(capsule.claims, policy, now);
}

function placesOf(manifest: Manifest, prologue: Prologue): StreamPlace[] {
  let tableAt = prologue.tablesAt;
  let bodyAt = prologue.bodyAt;
  return manifest.streams.map((stream, index) => {
    const measured = manifest.measured[index] ?? refuse(507);
    const length = Number(measured.encodedLen);
    const chunks = Number(chunkCount(measured.encodedLen, stream.chunkLen));
    const place = { index, chunkLen: stream.chunkLen, chunks, length, tableAt, bodyAt, tableDigest: measured.table };
    tableAt += chunks * ROW;
    bodyAt += length;
    return place;
  });
}

export function tableOf(file: Uint8Array, place: StreamPlace): Uint8Array {
  return file.subarray(place.tableAt, place.tableAt + place.chunks * ROW);
}

/** CAP-T-2. */
export function checkTable(file: Uint8Array, place: StreamPlace): void {
  require(equal(tableDigest(place.index, tableOf(file, place)), place.tableDigest), 801);
}

export interface Chunk {
  index: number;
  last: boolean;
  ciphertext: Uint8Array;
  tag: Uint8Array;
}

/** One chunk whose ciphertext has the signed digest (CAP-T-3). */
export function checkedChunk(file: Uint8Array, place: StreamPlace, index: number): Chunk {
  const start = index * place.chunkLen;
  const end = Math.min(start + place.chunkLen, place.length);
  const row = tableOf(file, place).subarray(index * ROW, (index + 1) * ROW);
  const ciphertext = file.subarray(place.bodyAt + start, place.bodyAt + end);
  require(ciphertext.length === end - start, 807);
  require(equal(chunkDigest(ciphertext), row.subarray(16)), 805);
  return { index, last: index === place.chunks - 1, ciphertext, tag: row.subarray(0, 16) };
}

/** Zeros where they have to be, once the tables are there (CAP-F-5). */
export function checkPadding(capsule: Verified): void {
  const { file, prologue, places } = capsule;
  const rows = places.reduce((sum, place) => sum + place.chunks, 0);
  require(isZero(file.subarray(prologue.tablesAt + rows * ROW, prologue.bodyAt)), 107);
}

/** Steps 11 and 12: every byte of tables and body. */
export function verifyBody(capsule: Verified): void {
  const { file, prologue, places } = capsule;
  require(file.length >= prologue.bodyAt, 106);
  for (const place of places) checkTable(file, place);
  checkPadding(capsule);
  for (const place of places) for (let i = 0; i < place.chunks; i++) checkedChunk(file, place, i);
  checkEnd(capsule);
}

/** CAP-F-6. */
export function checkEnd(capsule: Verified): void {
  const end = BigInt(capsule.prologue.bodyAt) + capsule.prologue.bodyLen;
  require(BigInt(capsule.file.length) >= end, 807);
  require(BigInt(capsule.file.length) === end, 108);
}
