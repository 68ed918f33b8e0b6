// Entropy-coded frames of one length (codecs-v1 §12). Encoders are free: only decoding is here.

import { isZero, view } from "../bytes.js";
import { refuse, require } from "../refusal.js";
import type { Frame } from "./bank.js";
import { floatOf, saturate } from "./numbers.js";
import { type Fitted, sums } from "./profile.js";
import { type Dtype, lossyFrame } from "./registry.js";
import type { Turns } from "./rotation.js";

const LANES = 32;
const SLOTS = 4096;
const LEAST = 65536;
const LARGEST_F32 = (2 - 2 ** -23) * 2 ** 127;

/** §12.3: of each base the frequency of the escape, then those of the symbols 0, 1, …. */
// prettier-ignore
const FREQUENCIES: readonly (readonly [escape: number, sides: readonly number[]])[] = [
  [1, [4077, 9]],
  [1, [4045, 25]],
  [1, [3973, 61]],
  [1, [3841, 127]],
  [1, [3631, 231, 1]],
  [1, [3361, 365, 2]],
  [1, [3045, 519, 6]],
  [1, [2707, 676, 17, 1]],
  [1, [2373, 815, 44, 2]],
  [1, [2057, 918, 94, 6, 1]],
  [1, [1769, 971, 173, 17, 2]],
  [1, [1511, 974, 270, 41, 6, 1]],
  [1, [1285, 935, 365, 85, 16, 3, 1]],
  [1, [1089, 867, 439, 147, 37, 9, 3, 1]],
  [1, [925, 782, 479, 216, 75, 23, 7, 2, 1]],
  [1, [775, 693, 488, 274, 126, 49, 18, 7, 3, 1, 1]],
  [1, [655, 604, 470, 311, 177, 88, 39, 17, 7, 3, 2, 1, 1]],
  [1, [549, 522, 437, 325, 216, 130, 71, 36, 18, 9, 4, 2, 1, 1, 1]],
  [1, [465, 447, 394, 319, 239, 165, 106, 64, 36, 20, 11, 6, 3, 2, 1, 1, 1]],
  [1, [391, 381, 348, 300, 244, 187, 136, 94, 62, 39, 24, 14, 9, 5, 3, 2, 1, 1, 1, 1]],
  [1, [329, 323, 303, 273, 236, 195, 155, 119, 88, 62, 43, 29, 19, 13, 8, 5, 4, 2, 2, 1, 1, 1, 1]],
  [2, [274, 273, 262, 243, 219, 191, 163, 134, 108, 84, 64, 48, 35, 25, 18, 12, 9, 6, 4, 3, 2, 2, 1, 1, 1, 1, 1]],
  [2, [236, 231, 224, 212, 197, 179, 160, 139, 119, 100, 82, 66, 53, 41, 32, 24, 18, 13, 10, 7, 5, 4, 3, 2, 2, 1, 1, 1, 1, 1, 1]],
  [5, [195, 194, 191, 184, 174, 163, 150, 136, 122, 108, 94, 80, 68, 57, 47, 38, 31, 25, 19, 15, 12, 9, 7, 6, 4, 3, 3, 2, 2, 1, 1, 1, 1]],
];
/** §12.4: 2^(i/32) as binary32, by its bits. */
// prettier-ignore
const STEPS = new Float32Array(new Uint32Array([
  0x3f800000, 0x3f82cd87, 0x3f85aac3, 0x3f88980f, 0x3f8b95c2, 0x3f8ea43a, 0x3f91c3d3, 0x3f94f4f0,
  0x3f9837f0, 0x3f9b8d3a, 0x3f9ef532, 0x3fa27043, 0x3fa5fed7, 0x3fa9a15b, 0x3fad583f, 0x3fb123f6,
  0x3fb504f3, 0x3fb8fbaf, 0x3fbd08a4, 0x3fc12c4d, 0x3fc5672a, 0x3fc9b9be, 0x3fce248c, 0x3fd2a81e,
  0x3fd744fd, 0x3fdbfbb8, 0x3fe0ccdf, 0x3fe5b907, 0x3feac0c7, 0x3fefe4ba, 0x3ff5257d, 0x3ffa83b3,
]).buffer);

interface Slot {
  /** Null is the escape. */
  symbol: number | null;
  frequency: number;
  within: number;
}

const BASES: readonly (readonly Slot[])[] = FREQUENCIES.map(([escape, sides]) => {
  const slots: Slot[] = [];
  const put = (symbol: number | null, frequency: number): void => {
    for (let within = 0; within < frequency; within++) slots.push({ symbol, frequency, within });
  };
  for (let symbol = 1 - sides.length; symbol < sides.length; symbol++) put(symbol, sides[Math.abs(symbol)] ?? 0);
  put(null, escape);
  return slots;
});

/** The states of the lanes, and the words that are not taken yet. */
class Lanes {
  private taken = 0;

  constructor(
    private readonly states: number[],
    private readonly words: DataView,
  ) {}

  /** The coefficients of one channel by its table; null is an escape. */
  channel(table: number, count: number): (number | null)[] {
    const slots = BASES[table < 24 ? table : 20 + (table % 4)] ?? refuse(902);
    const bits = table < 24 ? 0 : Math.floor((table - 20) / 4);
    const found: (number | null)[] = [];
    for (let first = 0; first < count; first += LANES) {
      const lanes = Math.min(LANES, count - first);
      for (let lane = 0; lane < lanes; lane++) {
        const state = this.states[lane] ?? refuse(902);
        const slot = slots[state % SLOTS] ?? refuse(902);
        this.states[lane] = slot.frequency * Math.floor(state / SLOTS) + slot.within;
        found.push(slot.symbol === null ? null : slot.symbol * 2 ** bits - Math.floor(2 ** bits / 2));
      }
      this.renew(lanes);
      if (bits === 0) continue;
      for (let lane = 0; lane < lanes; lane++) {
        const state = this.states[lane] ?? refuse(902);
        const low = state % 2 ** bits;
        this.states[lane] = Math.floor(state / 2 ** bits);
        const symbol = found[first + lane] ?? null;
        found[first + lane] = symbol === null ? null : symbol + low;
      }
      this.renew(lanes);
    }
    return found;
  }

  private renew(lanes: number): void {
    for (let lane = 0; lane < lanes; lane++) {
      const state = this.states[lane] ?? refuse(902);
      if (state >= LEAST) continue;
      require(this.taken + 2 <= this.words.byteLength, 902);
      this.states[lane] = state * LEAST + this.words.getUint16(this.taken, true);
      this.taken += 2;
    }
  }

  /** COD-T-7, but for the escapes. */
  finish(rest: Uint8Array): void {
    require(this.states.every((state) => state === LEAST) && isZero(rest.subarray(this.taken)), 902);
  }
}

/** Numbers of a little-endian bit stream of `bits` bits each; what follows them is zero. */
function numbers(stream: Uint8Array, count: number, bits: number): number[] {
  const bit = (at: number): number => ((stream[at >> 3] ?? 0) >> (at & 7)) & 1;
  for (let at = count * bits; at < 8 * stream.length; at++) require(bit(at) === 0, 902);
  return Array.from({ length: count }, (_, i) => {
    let number = 0;
    for (let b = 0; b < bits; b++) number += bit(i * bits + b) * 2 ** b;
    return number;
  });
}

/** `fitted` is what the profile knows of the bank, with transform 1 or 2. */
export function decodeTc(
  rate: number,
  dtype: Dtype,
  frame: Frame,
  turns: Turns | null,
  fitted: Fitted | null,
  encoded: Uint8Array,
): Uint8Array {
  const { heads, tokens, dim } = frame;
  const codec = { kind: "tc", transform: fitted?.transform ?? 0, rate } as const;
  require(BigInt(encoded.length) === lossyFrame(codec, dtype, BigInt(heads), BigInt(tokens), BigInt(dim)), 903);
  const from = view(encoded);
  const [k, stored, width, escapes] = [from.getInt16(0, true), from.getUint8(2), from.getUint8(3), from.getUint32(4, true)];
  const channels = heads * dim;
  require(k >= -3200 && k <= (fitted ? 4064 : 4096), 904);
  require(stored <= Math.min(16, tokens) && width <= 16 && escapes <= channels * (tokens - stored), 904);
  let at = 8;
  const cut = (length: number): Uint8Array => {
    require(at + length <= encoded.length, 904);
    at += length;
    return encoded.subarray(at - length, at);
  };
  const states = view(cut(4 * LANES));
  const [tableBytes, offsetBytes] = [cut(Math.ceil((6 * channels) / 8)), cut(Math.ceil((width * channels) / 8))];
  const [rows, escaped] = [cut(stored * channels * dtype.bytes), view(cut(2 * escapes))];
  const words = encoded.subarray(at);
  const initial = Array.from({ length: LANES }, (_, lane) => states.getUint32(4 * lane, true));
  require(initial.every((state) => state >= LEAST), 902);
  const tables = numbers(tableBytes, channels, 6);
  require(tables.every((table) => table < 60), 902);
  const sign = 2 ** width / 2;
  const offsets = numbers(offsetBytes, channels, width).map((n) => (width > 0 && n >= sign ? n - 2 * sign : n));
  const type = floatOf(dtype.code);
  for (let i = 0; i < rows.length; i += dtype.bytes) require(Number.isFinite(type.read(view(rows), i)), 905);

  const lanes = new Lanes(initial, view(words));
  const coded = tokens - stored;
  const unit = (STEPS[((k % 32) + 32) % 32] ?? 0) * 2 ** (Math.floor(k / 32) - 3);
  let met = 0;
  const q = tables.map((table) =>
    lanes.channel(table, coded).map((found) => {
      require(found !== null || met < escapes, 902);
      return found ?? escaped.getInt16(2 * met++, true);
    }),
  );
  require(met === escapes, 902);
  lanes.finish(words);
  const channelsOf = fitted ? throughProfile(fitted, q, offsets, unit) : plainChannels(q, offsets, unit);
  const values = new Float32Array(heads * coded * dim);
  for (let token = 0; token < coded; token++) {
    channelsOf(token).forEach((y, channel) => {
      const [head, i] = [Math.floor(channel / dim), channel % dim];
      values[(head * coded + token) * dim + i] = y;
    });
  }

  const out = new Uint8Array(frame.plainLen);
  const to = view(out);
  const rowBytes = dim * dtype.bytes;
  for (let head = 0; head < heads; head++) {
    out.set(rows.subarray(head * stored * rowBytes, (head + 1) * stored * rowBytes), head * tokens * rowBytes);
  }
  for (let token = 0; token < coded; token++) {
    const angles = turns?.angles(frame.firstToken + stored + token);
    for (let head = 0; head < heads; head++) {
      const first = (head * coded + token) * dim;
      if (turns && angles) turns.turn(values, first, angles, false);
      const rowAt = (head * tokens + stored + token) * rowBytes;
      for (let i = 0; i < dim; i++) type.write(to, rowAt + i * dtype.bytes, saturate(type, values[first + i] ?? 0));
    }
  }
  return out;
}

const bounded = (y: number): number => Math.min(Math.max(y, -LARGEST_F32), LARGEST_F32);

type Channels = (token: number) => number[];

/** §12.4 with transform 0. */
function plainChannels(q: readonly number[][], offsets: readonly number[], unit: number): Channels {
  return (token) =>
    q.map((channel, c) => bounded(Math.fround((8 * (channel[token] ?? 0) + (offsets[c] ?? 0)) * unit)));
}

/** §12.4 with transform 1 or 2. */
function throughProfile(fitted: Fitted, q: readonly number[][], offsets: readonly number[], unit: number): Channels {
  const scaled = (sum: number, by: number): number => Math.fround(Math.fround(sum) * by);
  const bias = Array.from(sums(fitted, offsets), (sum, d) =>
    bounded(Math.fround(scaled(sum, unit) + (fitted.mean[d] ?? 0))),
  );
  return (token) => {
    const found = sums(fitted, q.map((component) => component[token] ?? 0));
    return Array.from(found, (sum, d) => bounded(Math.fround(scaled(sum, 8 * unit) + (bias[d] ?? 0))));
  };
}
