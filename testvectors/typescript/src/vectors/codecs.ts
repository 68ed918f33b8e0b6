// Every codec vector (testvectors/codec/README.md).

import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { concat, unhex, view } from "../bytes.js";
import { type BankLayout, decodeBank, encodeBank } from "../codecs/bank.js";
import { type Fitted, Profile } from "../codecs/profile.js";
import { measure } from "../codecs/receipt.js";
import { applies, type Codec, codecOf, dtypeOf, plainLength, type Shape } from "../codecs/registry.js";
import { Turns } from "../codecs/rotation.js";
import { f64FromBits } from "../codecs/numbers.js";
import { Refusal, refuse, require } from "../refusal.js";
import { ROLE } from "../stream.js";
import { parseExact, sha256, type Uint } from "./index.js";

type Form =
  | { hex: string }
  | { halves: { first: number; step: number; count: number; below: number } }
  | { repeat: [Form, number] }
  | { concat: Form[] }
  | { digest: [number, string] };

interface Vector {
  name: string;
  dtype: number[];
  codec: number[];
  shape: Uint[];
  rotation: { pairing: number; frequencies: string[]; start: Uint; listed: Uint[] | null } | null;
  profile?: Form;
  plain: Form | null;
  encoded: Form | null;
  decoded: Form | null;
  receipt: string | null;
  free: boolean;
  code: number;
}

export function runCodecs(path: string): { ran: number; failed: number } {
  const { vectors } = parseExact(gunzipSync(readFileSync(path)).toString("utf8")) as { vectors: Vector[] };
  let failed = 0;
  for (const vector of vectors) {
    const problem = check(vector);
    if (problem !== null) {
      failed += 1;
      console.log(`${vector.name}: ${problem}`);
    }
  }
  return { ran: vectors.length, failed };
}

/** The bytes of a form, or null where only a digest is stated. */
function bytesOf(form: Form): Uint8Array | null {
  if ("hex" in form) return unhex(form.hex);
  if ("digest" in form) return null;
  if ("repeat" in form) {
    const [inner, times] = form.repeat;
    return concat(...Array<Uint8Array>(times).fill(bytesOf(inner) ?? new Uint8Array(0)));
  }
  if ("concat" in form) return concat(...form.concat.map((inner) => bytesOf(inner) ?? new Uint8Array(0)));
  const { first, step, count, below } = form.halves;
  const patterns = Array.from({ length: count }, (_, i) => (first + i * step) % 65536);
  const kept = patterns.filter((pattern) => (pattern & 0x7fff) < below);
  const out = new Uint8Array(2 * kept.length);
  kept.forEach((pattern, i) => view(out).setUint16(2 * i, pattern, true));
  return out;
}

function agrees(bytes: Uint8Array, form: Form): boolean {
  if ("digest" in form) return bytes.length === form.digest[0] && sha256(bytes) === form.digest[1];
  return Buffer.compare(bytes, bytesOf(form) ?? new Uint8Array(0)) === 0;
}

function layoutOf(vector: Vector): BankLayout {
  const dtype = dtypeOf(vector.dtype) ?? refuse(501);
  const codec = codecOf(vector.codec);
  const [kind, ...dimensions] = vector.shape.map(BigInt);
  const [heads = 0n, tokens = 0n, dim = 0n] = dimensions;
  const shape: Shape = kind === 0n ? { kind: "tokens", heads, tokens, dim } : { kind: "whole", dimensions };
  require(applies(codec, dtype, shape, ROLE.key), 903);
  const plainLen = plainLength(dtype, shape) ?? refuse(903);
  return { dtype, shape, codec, plainLen: Number(plainLen), turns: turnsOf(vector, Number(tokens)), fitted: fittedOf(vector, codec, heads, dim) };
}

/** What the vector's profile knows of its bank, which there is of layer 0 and role 1. */
function fittedOf({ profile }: Vector, codec: Codec, heads: bigint, dim: bigint): Fitted | null {
  if (profile === undefined || codec.kind !== "tc") return null;
  const known = Profile.parse(bytesOf(profile) ?? refuse(908));
  return known.fitted({ layer: 0, role: ROLE.value }, codec.transform, Number(heads), Number(dim));
}

function turnsOf({ rotation }: Vector, rows: number): Turns | null {
  if (rotation === null) return null;
  const { pairing, frequencies, start, listed } = rotation;
  const position = (row: number): bigint | null => {
    if (listed === null) return BigInt(start) + BigInt(row);
    const found = listed[row];
    return found === undefined ? null : BigInt(found);
  };
  return new Turns(pairing, frequencies.map((digits) => f64FromBits(BigInt(`0x${digits}`))), position, rows);
}

function check(vector: Vector): string | null {
  try {
    const problem = encodeAndDecode(vector);
    return problem ?? (vector.code === 0 ? null : `accepted instead of KVC-${vector.code}`);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return error.code === vector.code ? null : `${error.message} instead of KVC-${vector.code}`;
  }
}

function encodeAndDecode(vector: Vector): string | null {
  const layout = layoutOf(vector);
  const plain = vector.plain === null ? null : bytesOf(vector.plain);
  let encoded = vector.encoded === null ? null : bytesOf(vector.encoded);
  if (plain !== null && !vector.free) {
    const made = encodeBank(layout, plain);
    if (vector.encoded !== null && !agrees(made, vector.encoded)) return "encodes to other bytes";
    encoded ??= made;
  }
  if (encoded === null) return "holds nothing to decode";
  const decoded = decodeBank(layout, encoded);
  const wanted = vector.decoded ?? vector.plain;
  if (wanted !== null && !agrees(decoded, wanted)) return "decodes to other bytes";
  if (vector.receipt !== null && plain !== null) {
    const receipt = Buffer.from(measure(layout, plain, decoded)).toString("hex");
    if (receipt !== vector.receipt) return `measures ${receipt} instead of ${vector.receipt}`;
  }
  return null;
}
