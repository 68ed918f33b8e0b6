// Bits of a number (codecs-v1 §1). f32 arithmetic is f64 arithmetic rounded by Math.fround after each operation.

import { view } from "../bytes.js";

/** The element types that lossy codecs know. */
export interface Float {
  bytes: 2 | 4;
  largest: number;
  read(from: DataView, at: number): number;
  /** Rounds a number that is within ±largest, ties to even. */
  write(to: DataView, at: number, value: number): void;
  round(value: number): number;
}

const shared = new DataView(new ArrayBuffer(8));
/** Adding and taking off 1.5 · 2^52 rounds to a whole number, ties to even. */
const WHOLE = 1.5 * 2 ** 52;
export const rint = (x: number): number => (Math.abs(x) < 2 ** 51 ? x + WHOLE - WHOLE : x);

export const f64FromBits = (bits: bigint): number => {
  shared.setBigUint64(0, bits);
  return shared.getFloat64(0);
};

export const lowBits = (x: number): number => {
  shared.setFloat64(0, x);
  return shared.getUint32(4);
};

function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** f16(x), which may be infinite. */
function halfBits(x: number): number {
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  const size = Math.abs(x);
  if (size >= 65520) return sign | 0x7c00;
  if (size < 2 ** -14) return sign | rint(size * 2 ** 24);
  shared.setFloat64(0, size);
  const exponent = (shared.getUint16(0) >> 4) - 1023;
  // a fraction that rounds up to the next power of two carries into the exponent
  return sign | (((exponent + 14) << 10) + rint(size * 2 ** (10 - exponent)));
}

function bfloatBits(x: number): number {
  shared.setFloat32(0, x);
  const bits = shared.getUint32(0);
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

function bfloatValue(bits: number): number {
  shared.setUint32(0, bits << 16);
  return shared.getFloat32(0);
}

export const F16: Float = {
  bytes: 2,
  largest: 65504,
  read: (from, at) => halfValue(from.getUint16(at, true)),
  write: (to, at, value) => to.setUint16(at, halfBits(value), true),
  round: (value) => halfValue(halfBits(value)),
};

export const BF16: Float = {
  bytes: 2,
  largest: bfloatValue(0x7f7f),
  read: (from, at) => bfloatValue(from.getUint16(at, true)),
  write: (to, at, value) => to.setUint16(at, bfloatBits(value), true),
  round: (value) => bfloatValue(bfloatBits(value)),
};

export const F32: Float = {
  bytes: 4,
  largest: (2 - 2 ** -23) * 2 ** 127,
  read: (from, at) => from.getFloat32(at, true),
  write: (to, at, value) => to.setFloat32(at, value, true),
  round: Math.fround,
};

export const floatOf = (code: number): Float => (code === 1 ? F16 : code === 2 ? BF16 : F32);

/** sat_T: clamped, then rounded. A clamp keeps the sign of zero. */
export function saturate(type: Float, value: number): number {
  return value > type.largest ? type.largest : value < -type.largest ? -type.largest : value;
}

/** All elements of plain bytes, widened. */
export function widen(type: Float, bytes: Uint8Array): Float32Array {
  const from = view(bytes);
  return Float32Array.from({ length: bytes.length / type.bytes }, (_, i) => type.read(from, i * type.bytes));
}
