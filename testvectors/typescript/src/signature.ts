// Ed25519 by the strict rule CAP-E-11.

import { ed25519 } from "@noble/curves/ed25519.js";
import { sha512 } from "@noble/hashes/sha2.js";
import { concat } from "./bytes.js";
import { refuse, require } from "./refusal.js";

const Point = ed25519.Point;
const ORDER = Point.Fn.ORDER;
type Point = InstanceType<typeof Point>;

export interface PublicKey {
  bytes: Uint8Array;
  point: Point;
}

/** Canonical and not of small order, or null. */
function strictPoint(bytes: Uint8Array): Point | null {
  try {
    const point = Point.fromBytes(bytes, false);
    return point.isSmallOrder() ? null : point;
  } catch {
    return null;
  }
}

export function loadPublicKey(bytes: Uint8Array): PublicKey {
  const point = bytes.length === 32 ? strictPoint(bytes) : null;
  return { bytes, point: point ?? refuse(305) };
}

function littleEndian(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

export function verifySignature(key: PublicKey, message: Uint8Array, signature: Uint8Array): void {
  require(signature.length === 64, 306);
  const s = littleEndian(signature.subarray(32));
  require(s < ORDER, 306);
  const r = strictPoint(signature.subarray(0, 32)) ?? refuse(307);
  const k = littleEndian(sha512(concat(signature.subarray(0, 32), key.bytes, message))) % ORDER;
  const left = Point.BASE.multiplyUnsafe(s);
  require(left.equals(r.add(key.point.multiplyUnsafe(k))), 307);
}
