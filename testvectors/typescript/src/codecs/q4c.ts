// Keys turned back and quantized channel by channel (codecs-v1 §7).

import { view } from "../bytes.js";
import { require } from "../refusal.js";
import type { Frame } from "./bank.js";
import { readCode, writeCode } from "./bits.js";
import { F16, floatOf, rint, saturate, widen } from "./numbers.js";
import type { Dtype } from "./registry.js";
import type { Turns } from "./rotation.js";

const GROUP = 64;
const BITS = 4;
const round = Math.fround;

function partsOf(frame: Frame) {
  const groups = Math.ceil(frame.tokens / GROUP);
  const rowBytes = Math.ceil(frame.dim / 2);
  const scalesAt = frame.heads * frame.tokens * rowBytes;
  const biasesAt = scalesAt + frame.heads * groups * frame.dim * 2;
  return { groups, rowBytes, scalesAt, biasesAt, length: biasesAt + frame.heads * groups * frame.dim * 2 };
}

export function decodeQ4c(dtype: Dtype, frame: Frame, turns: Turns, encoded: Uint8Array): Uint8Array {
  const { groups, rowBytes, scalesAt, biasesAt, length } = partsOf(frame);
  require(encoded.length === length, 903);
  const rows = frame.heads * frame.tokens;
  if (frame.dim % 2 === 1) {
    for (let row = 0; row < rows; row++) require(readCode(encoded, row * rowBytes, frame.dim, BITS) === 0, 902);
  }
  const from = view(encoded);
  for (let at = scalesAt; at < length; at += 2) require(Number.isFinite(F16.read(from, at)), 905);
  const type = floatOf(dtype.code);
  const out = new Uint8Array(frame.plainLen);
  const to = view(out);
  const x = new Float32Array(frame.dim);
  for (let token = 0; token < frame.tokens; token++) {
    const angles = turns.angles(frame.firstToken + token);
    for (let head = 0; head < frame.heads; head++) {
      const row = head * frame.tokens + token;
      const group = (head * groups + Math.floor(token / GROUP)) * frame.dim;
      for (let i = 0; i < frame.dim; i++) {
        const scale = F16.read(from, scalesAt + 2 * (group + i));
        const bias = F16.read(from, biasesAt + 2 * (group + i));
        x[i] = round(readCode(encoded, row * rowBytes, i, BITS) * scale) + bias;
      }
      turns.turn(x, 0, angles, false);
      x.forEach((value, i) => type.write(to, (row * frame.dim + i) * dtype.bytes, saturate(type, value)));
    }
  }
  return out;
}

/** Rows of a frame, widened and turned back, in the order of its bytes. */
export function turnedBack(dtype: Dtype, frame: Frame, turns: Turns, plain: Uint8Array): Float32Array {
  const elements = widen(floatOf(dtype.code), plain);
  for (let token = 0; token < frame.tokens; token++) {
    const angles = turns.angles(frame.firstToken + token);
    for (let head = 0; head < frame.heads; head++) {
      turns.turn(elements, (head * frame.tokens + token) * frame.dim, angles, true);
    }
  }
  return elements;
}

/** Profile `q4c-1` (§7.4). */
export function encodeQ4c(dtype: Dtype, frame: Frame, turns: Turns, plain: Uint8Array): Uint8Array {
  const { groups, rowBytes, scalesAt, biasesAt, length } = partsOf(frame);
  require(widen(floatOf(dtype.code), plain).every(Number.isFinite), 905);
  const elements = turnedBack(dtype, frame, turns, plain);
  const out = new Uint8Array(length);
  const to = view(out);
  const at = (head: number, token: number, i: number): number =>
    elements[(head * frame.tokens + token) * frame.dim + i] ?? 0;
  for (let head = 0; head < frame.heads; head++) {
    for (let g = 0; g < groups; g++) {
      const end = Math.min((g + 1) * GROUP, frame.tokens);
      for (let i = 0; i < frame.dim; i++) {
        let [lo, hi] = [Infinity, -Infinity];
        for (let token = g * GROUP; token < end; token++) {
          lo = Math.min(lo, at(head, token, i));
          hi = Math.max(hi, at(head, token, i));
        }
        const bias = F16.round(lo + 0);
        const scale = F16.round(Math.max(round(round(hi - bias) / 15), 2 ** -24));
        require(Number.isFinite(bias) && Number.isFinite(scale), 905);
        const group = (head * groups + g) * frame.dim + i;
        F16.write(to, scalesAt + 2 * group, scale);
        F16.write(to, biasesAt + 2 * group, bias);
        for (let token = g * GROUP; token < end; token++) {
          const level = round(round(at(head, token, i) - bias) / scale);
          const row = head * frame.tokens + token;
          writeCode(out, row * rowBytes, i, BITS, rint(Math.min(Math.max(level, 0), 15)));
        }
      }
    }
  }
  return out;
}
