// Affine quantization of groups of a row (codecs-v1 §6).

import { view } from "../bytes.js";
import { require } from "../refusal.js";
import type { Frame } from "./bank.js";
import { readCode, writeCode } from "./bits.js";
import { floatOf, rint, saturate, widen } from "./numbers.js";
import type { Dtype } from "./registry.js";

interface Affine {
  bits: number;
  group: number;
}

const round = Math.fround;
const LEAST_STEP = round(1e-7);

/** Where the parts of a frame stand. */
function partsOf({ bits, group }: Affine, dtype: Dtype, frame: Frame) {
  const rows = frame.heads * frame.tokens;
  const groups = Math.ceil(frame.dim / group);
  const rowBytes = (groups * group * bits) / 8;
  const scalesAt = rows * rowBytes;
  const biasesAt = scalesAt + rows * groups * dtype.bytes;
  return { rows, groups, rowBytes, scalesAt, biasesAt, length: biasesAt + rows * groups * dtype.bytes };
}

export function decodeAffine(codec: Affine, dtype: Dtype, frame: Frame, encoded: Uint8Array): Uint8Array {
  const { rows, groups, rowBytes, scalesAt, biasesAt, length } = partsOf(codec, dtype, frame);
  require(encoded.length === length, 903);
  for (let row = 0; row < rows; row++) {
    for (let i = frame.dim; i < groups * codec.group; i++) {
      require(readCode(encoded, row * rowBytes, i, codec.bits) === 0, 902);
    }
  }
  const type = floatOf(dtype.code);
  const [from, out] = [view(encoded), new Uint8Array(frame.plainLen)];
  const to = view(out);
  for (let row = 0; row < rows; row++) {
    for (let g = 0; g < groups; g++) {
      const at = (row * groups + g) * dtype.bytes;
      const [scale, bias] = [type.read(from, scalesAt + at), type.read(from, biasesAt + at)];
      require(Number.isFinite(scale) && Number.isFinite(bias), 905);
      const end = Math.min((g + 1) * codec.group, frame.dim);
      for (let i = g * codec.group; i < end; i++) {
        const code = readCode(encoded, row * rowBytes, i, codec.bits);
        const value = saturate(type, round(round(code * scale) + bias));
        type.write(to, (row * frame.dim + i) * dtype.bytes, value);
      }
    }
  }
  return out;
}

/** Profile `affine-1` (§6.4). */
export function encodeAffine(codec: Affine, dtype: Dtype, frame: Frame, plain: Uint8Array): Uint8Array {
  const { rows, groups, rowBytes, scalesAt, biasesAt, length } = partsOf(codec, dtype, frame);
  const type = floatOf(dtype.code);
  const elements = widen(type, plain);
  const out = new Uint8Array(length);
  const to = view(out);
  const most = 2 ** codec.bits - 1;
  for (let row = 0; row < rows; row++) {
    for (let g = 0; g < groups; g++) {
      const first = g * codec.group;
      const end = Math.min(first + codec.group, frame.dim);
      const group = elements.subarray(row * frame.dim + first, row * frame.dim + end);
      const { scale, bias } = fit(group, most, type.round);
      const at = (row * groups + g) * dtype.bytes;
      type.write(to, scalesAt + at, scale);
      type.write(to, biasesAt + at, bias);
      group.forEach((x, i) => {
        const level = round(round(x - bias) / scale);
        const code = rint(Math.min(Math.max(level, 0), most));
        writeCode(out, row * rowBytes, first + i, codec.bits, code);
      });
    }
  }
  return out;
}

function fit(group: Float32Array, most: number, toType: (x: number) => number): { scale: number; bias: number } {
  require(group.every(Number.isFinite), 905);
  let [lo, hi] = [Infinity, -Infinity];
  for (const x of group) {
    if (x < lo) lo = x;
    if (x > hi) hi = x;
  }
  const range = round(hi - lo);
  require(Number.isFinite(range), 905);
  if (lo === hi) return { scale: 1, bias: hi + 0 };
  let step = Math.max(round(range / most), LEAST_STEP);
  const edge = Math.abs(lo) > Math.abs(hi) ? lo : hi;
  if (edge === hi) step = -step;
  const k = rint(round(edge / step));
  return k === 0 ? { scale: toType(step), bias: 0 } : { scale: toType(round(edge / k)), bias: edge };
}
