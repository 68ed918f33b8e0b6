// Element types and codecs (codecs-v1 §2.1, §3), and the lengths that they give (§2, §8).

import { require } from "../refusal.js";

/** One element type: how many elements a block has, and how many bytes. */
export interface Dtype {
  code: number;
  name: string;
  elements: number;
  bytes: number;
}

const TYPES: readonly [code: number, name: string, elements: number, bytes: number][] = [
  [1, "f16", 1, 2],
  [2, "bf16", 1, 2],
  [3, "f32", 1, 4],
  [4, "f64", 1, 8],
  [5, "f8_e4m3", 1, 1],
  [6, "f8_e5m2", 1, 1],
  [7, "bool", 1, 1],
  [16, "u8", 1, 1],
  [17, "i8", 1, 1],
  [18, "u16", 1, 2],
  [19, "i16", 1, 2],
  [20, "u32", 1, 4],
  [21, "i32", 1, 4],
  [22, "u64", 1, 8],
  [23, "i64", 1, 8],
  [32, "ggml_q4_0", 32, 18],
  [33, "ggml_q4_1", 32, 20],
  [34, "ggml_q5_0", 32, 22],
  [35, "ggml_q5_1", 32, 24],
  [36, "ggml_q8_0", 32, 34],
  [37, "ggml_iq4_nl", 32, 18],
];
const BITS = [3, 4, 5, 6, 8];
const GROUPS = [32, 64, 128];

/** The element type of `[code]` or `[48, bits, group, params]`, or null where it is unknown. */
export function dtypeOf(numbers: readonly number[]): Dtype | null {
  const [code, bits, group, params] = numbers;
  if (code === 48) {
    if (numbers.length !== 4 || bits === undefined || group === undefined) return null;
    const name = ["f16", "bf16", "f32"][(params ?? 0) - 1];
    if (!BITS.includes(bits) || !GROUPS.includes(group) || name === undefined) return null;
    const scale = name === "f32" ? 4 : 2;
    return { code, name: `mlx_q${bits}_g${group}_${name}`, elements: group, bytes: (group * bits) / 8 + 2 * scale };
  }
  const found = numbers.length === 1 ? TYPES.find(([known]) => known === code) : undefined;
  return found === undefined ? null : { code: found[0], name: found[1], elements: found[2], bytes: found[3] };
}

export type Codec =
  | { kind: "raw" }
  | { kind: "planes"; width: 2 | 4 }
  | { kind: "affine"; bits: number; group: number }
  | { kind: "q4c" }
  | { kind: "tc"; transform: number; rate: number };

/** COD-R-1. */
export function codecOf(numbers: readonly number[]): Codec {
  const [id, bits, group] = numbers;
  require(id !== undefined && id <= 5, 901);
  if (id === 2) {
    require(numbers.length === 3 && bits !== undefined && group !== undefined, 901);
    require(BITS.includes(bits) && GROUPS.includes(group), 901);
    return { kind: "affine", bits, group };
  }
  if (id === 5) {
    const [, transform, rate] = numbers;
    require(numbers.length === 3 && transform !== undefined && transform <= 2, 901);
    require(rate !== undefined && rate >= 16 && rate <= 1024, 901);
    return { kind: "tc", transform, rate };
  }
  require(numbers.length === 1, 901);
  return id === 0 ? { kind: "raw" } : id === 3 ? { kind: "q4c" } : { kind: "planes", width: id === 1 ? 2 : 4 };
}

export type Shape = { kind: "tokens"; heads: bigint; tokens: bigint; dim: bigint } | { kind: "whole"; dimensions: bigint[] };

export const isLossy = (codec: Codec): boolean => codec.kind !== "raw" && codec.kind !== "planes";

export const needsProfile = (codec: Codec): boolean => codec.kind === "tc" && codec.transform !== 0;

/** COD-F-2, and where transforms 1 and 2 apply. */
export function fitsProfile(transform: number, heads: bigint, dim: bigint): boolean {
  const small = dim >= 1n && dim <= 1024n && heads >= 1n && heads <= 1024n && heads * dim <= 16_384n;
  return small && (transform === 1 || heads * dim <= 1024n);
}

/** COD-R-2: element type, kind of shape, and role (a number of capsule-v1 §7.1). */
export function applies(codec: Codec, dtype: Dtype, shape: Shape, role: number): boolean {
  switch (codec.kind) {
    case "raw":
      return true;
    case "planes":
      return codec.width === 2 ? dtype.code === 1 || dtype.code === 2 : dtype.code === 3;
    case "affine":
      return dtype.code <= 3 && shape.kind === "tokens" && role <= 3;
    case "tc": {
      if (dtype.code > 3 || shape.kind !== "tokens" || role > 3) return false;
      return codec.transform === 0 || fitsProfile(codec.transform, shape.heads, shape.dim);
    }
    case "q4c":
      return dtype.code <= 3 && shape.kind === "tokens" && (role === 0 || role === 3);
  }
}

const U64 = 1n << 64n;

/** Plain bytes of a bank, or null where a row is no whole number of blocks or a product overflows (COD-L-1). */
export function plainLength(dtype: Dtype, shape: Shape): bigint | null {
  const dimensions = shape.kind === "tokens" ? [shape.heads, shape.tokens, shape.dim] : shape.dimensions;
  const row = dimensions.at(-1) ?? 1n;
  if (row % BigInt(dtype.elements) !== 0n) return null;
  let bytes = (row / BigInt(dtype.elements)) * BigInt(dtype.bytes);
  if (bytes >= U64) return null;
  for (const dimension of dimensions.slice(0, -1)) {
    bytes *= dimension;
    if (bytes >= U64) return null;
  }
  return bytes;
}

const ceil = (a: bigint, b: bigint): bigint => (a + b - 1n) / b;
const FRAME_TOKENS = 256n;
const FRAME_BYTES = 1_048_576n;

export function frameCount(shape: Shape, plain: bigint): bigint {
  return shape.kind === "tokens" ? ceil(shape.tokens, FRAME_TOKENS) : ceil(plain, FRAME_BYTES);
}

/** Encoded bytes of one frame of a lossy codec, with `tokens` tokens. */
export function lossyFrame(codec: Codec, dtype: Dtype, heads: bigint, tokens: bigint, dim: bigint): bigint {
  if (codec.kind === "affine") {
    const groups = ceil(dim, BigInt(codec.group));
    const codes = (groups * BigInt(codec.group) * BigInt(codec.bits)) / 8n;
    return heads * tokens * (codes + 2n * groups * BigInt(dtype.bytes));
  }
  if (codec.kind === "tc") {
    const channels = heads * dim;
    const [values, overhead] = [channels * tokens, 136n + 2n * channels];
    const rated = (BigInt(codec.rate) * values) / 512n + (overhead * (FRAME_TOKENS - tokens)) / FRAME_TOKENS;
    const least = overhead + ceil(values, 256n);
    return rated > least ? rated : least;
  }
  return heads * (tokens * ceil(dim, 2n) + 4n * ceil(tokens, 64n) * dim);
}

/** Whether a stream may have this encoded length (CAP-S-7). */
export function encodedFits(codec: Codec, dtype: Dtype, shape: Shape, plain: bigint, encoded: bigint): boolean {
  if (codec.kind === "raw") return encoded === plain;
  if (codec.kind === "planes") {
    const frames = frameCount(shape, plain);
    return encoded >= 1n && encoded <= padded(plain + frames + 4n * frames, 0n);
  }
  if (shape.kind !== "tokens") return false;
  const whole = shape.tokens / FRAME_TOKENS;
  const rest = shape.tokens % FRAME_TOKENS;
  const { heads, dim } = shape;
  const last = rest === 0n ? 0n : lossyFrame(codec, dtype, heads, rest, dim);
  return encoded === whole * lossyFrame(codec, dtype, heads, FRAME_TOKENS, dim) + last;
}

/** The ladders of §8.2: Padmé keeps no more bits (0), the fine one three. */
export function padded(length: bigint, more: bigint): bigint {
  if (length < 2n) return length;
  const floorLog2 = (x: bigint): bigint => BigInt(x.toString(2).length - 1);
  const e = floorLog2(length);
  const kept = floorLog2(e) + 1n + more;
  const mask = (1n << (e > kept ? e - kept : 0n)) - 1n;
  return (length + mask) & ~mask;
}
