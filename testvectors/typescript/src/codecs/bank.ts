// A bank as a codec sees it, its frames, and its stream (codecs-v1 §2, §8).

import { concat, isZero, view } from "../bytes.js";
import { refuse, require } from "../refusal.js";
import { decodeAffine, encodeAffine } from "./affine.js";
import { decodePlanes } from "./planes.js";
import type { Fitted } from "./profile.js";
import { decodeQ4c, encodeQ4c } from "./q4c.js";
import { type Codec, type Dtype, isLossy, lossyFrame, needsProfile, padded, type Shape } from "./registry.js";
import type { Turns } from "./rotation.js";
import { decodeTc } from "./tc.js";

export interface BankLayout {
  dtype: Dtype;
  shape: Shape;
  codec: Codec;
  plainLen: number;
  /** What turns the keys of each row, for q4c, tc and receipts. */
  turns: Turns | null;
  /** What the profile knows of the bank, for tc of transform 1 or 2. */
  fitted: Fitted | null;
}

/** One token block with all its heads, or 1 MiB of a bank without token axis. */
export interface Frame {
  plainAt: number;
  plainLen: number;
  heads: number;
  firstToken: number;
  tokens: number;
  dim: number;
}

export function framesOf({ dtype, shape, plainLen }: BankLayout): Frame[] {
  const frames: Frame[] = [];
  if (shape.kind === "whole") {
    for (let at = 0; at < plainLen; at += 1 << 20) {
      const length = Math.min(1 << 20, plainLen - at);
      frames.push({ plainAt: at, plainLen: length, heads: 1, firstToken: 0, tokens: 1, dim: length / dtype.bytes });
    }
    return frames;
  }
  const [heads, tokens, dim] = [Number(shape.heads), Number(shape.tokens), Number(shape.dim)];
  const tokenBytes = plainLen / tokens;
  for (let first = 0; first < tokens; first += 256) {
    const count = Math.min(256, tokens - first);
    frames.push({ plainAt: first * tokenBytes, plainLen: count * tokenBytes, heads, firstToken: first, tokens: count, dim });
  }
  return frames;
}

/** The plain bytes of a stream. */
export function decodeBank(bank: BankLayout, stream: Uint8Array): Uint8Array {
  require(bank.fitted !== null || !needsProfile(bank.codec), 908);
  const frames = framesOf(bank);
  const cut = bank.codec.kind === "planes" ? packed(frames, stream) : inOrder(bank, frames, stream);
  if (bank.codec.kind === "q4c" || bank.codec.kind === "tc") {
    bank.turns?.check(Number(bank.shape.kind === "tokens" ? bank.shape.dim : 0n));
  }
  return concat(...frames.map((frame, i) => decodeFrame(bank, frame, cut[i] ?? refuse(903))));
}

/** The stream of plain bytes, by the profiles `affine-1` and `q4c-1`, or raw. */
export function encodeBank(bank: BankLayout, plain: Uint8Array): Uint8Array {
  require(plain.length === bank.plainLen, 903);
  if (bank.codec.kind === "q4c") bank.turns?.check(Number(bank.shape.kind === "tokens" ? bank.shape.dim : 0n));
  const frames = framesOf(bank).map((frame) => {
    const bytes = plain.subarray(frame.plainAt, frame.plainAt + frame.plainLen);
    switch (bank.codec.kind) {
      case "affine":
        return encodeAffine(bank.codec, bank.dtype, frame, bytes);
      case "q4c":
        return encodeQ4c(bank.dtype, frame, bank.turns ?? refuse(903), bytes);
      case "raw":
        return bytes;
      case "planes":
        return refuse(901, "an encoder of planes is free in what it writes");
      case "tc":
        return refuse(901, "an encoder of tc is free in what it writes");
    }
  });
  return concat(...frames);
}

function decodeFrame(bank: BankLayout, frame: Frame, encoded: Uint8Array): Uint8Array {
  switch (bank.codec.kind) {
    case "raw":
      return encoded;
    case "planes":
      return decodePlanes(bank.codec.width, frame.plainLen, encoded);
    case "affine":
      return decodeAffine(bank.codec, bank.dtype, frame, encoded);
    case "q4c":
      return decodeQ4c(bank.dtype, frame, bank.turns ?? refuse(903), encoded);
    case "tc":
      return decodeTc(bank.codec.rate, bank.dtype, frame, bank.turns, bank.fitted, encoded);
  }
}

/** Frames of a codec of fixed rate, one after the other. */
function inOrder(bank: BankLayout, frames: Frame[], stream: Uint8Array): Uint8Array[] {
  let at = 0;
  const cut = frames.map((frame) => {
    const length = isLossy(bank.codec)
      ? Number(lossyFrame(bank.codec, bank.dtype, BigInt(frame.heads), BigInt(frame.tokens), BigInt(frame.dim)))
      : frame.plainLen;
    at += length;
    return stream.subarray(at - length, at);
  });
  require(at === stream.length, 903);
  return cut;
}

/** COD-I-1 … COD-I-3, in the order of §8.3. */
function packed(frames: Frame[], stream: Uint8Array): Uint8Array[] {
  const indexAt = stream.length - 4 * frames.length;
  require(indexAt >= 0, 903);
  const index = view(stream);
  let sum = 0;
  const places = frames.map((frame, i) => {
    const length = index.getUint32(indexAt + 4 * i, true);
    require(length >= 1 && length <= 1 + frame.plainLen, 904);
    sum += length;
    return [sum - length, sum] as const;
  });
  const [total, length] = [BigInt(sum + 4 * frames.length), BigInt(stream.length)];
  require(padded(total, 0n) === length || padded(total, 3n) === length, 903);
  require(isZero(stream.subarray(sum, indexAt)), 902);
  return places.map(([start, end]) => stream.subarray(start, end));
}
