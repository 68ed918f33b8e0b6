// Quality receipts (codecs-v1 §10).

import { view } from "../bytes.js";
import { require } from "../refusal.js";
import { type BankLayout, type Frame, framesOf } from "./bank.js";
import { floatOf, widen } from "./numbers.js";
import { turnedBack } from "./q4c.js";

/** The receipt of `decoded` against `plain`, 32 bytes. */
export function measure(bank: BankLayout, plain: Uint8Array, decoded: Uint8Array): Uint8Array {
  const type = floatOf(bank.dtype.code);
  let [E, X, Y, P, M] = [0, 0, 0, 0, 0];
  const channels = new Channels();
  for (const frame of framesOf(bank)) {
    const cut = (bytes: Uint8Array): Uint8Array => bytes.subarray(frame.plainAt, frame.plainAt + frame.plainLen);
    const [x, y] = [widen(type, cut(plain)), widen(type, cut(decoded))];
    const difference = (i: number): number => (x[i] ?? 0) - (y[i] ?? 0);
    const lanes = (term: (i: number) => number): number => sum(x.length, term);
    E += lanes((i) => difference(i) * difference(i));
    X += lanes((i) => (x[i] ?? 0) * (x[i] ?? 0));
    Y += lanes((i) => (y[i] ?? 0) * (y[i] ?? 0));
    P += lanes((i) => (x[i] ?? 0) * (y[i] ?? 0));
    for (let i = 0; i < x.length; i++) M = Math.max(M, Math.abs(difference(i)));
    if (bank.turns !== null) channels.add(frame, turnedBack(bank.dtype, frame, bank.turns, cut(plain)));
  }
  const ratio = (against: number): number => Math.min(Math.sqrt(E / against), Number.MAX_VALUE);
  const rmse = E === 0 ? 0 : ratio(X);
  const root = Math.sqrt(X * Y);
  const D = channels.spread();
  const centred = bank.turns === null || E === 0 ? 0 : D > 0 ? ratio(D) : rmse;
  const out = new Uint8Array(32);
  const cosine = root === 0 ? (X === Y ? 1 : 0) : P / root;
  [rmse, M, cosine, centred].forEach((value, i) => view(out).setFloat64(8 * i, value, true));
  return out;
}

/** Eight lanes, added in the order of §10.2. */
function sum(length: number, term: (i: number) => number): number {
  const l = new Float64Array(8);
  for (let i = 0; i < length; i++) l[i % 8] = (l[i % 8] ?? 0) + term(i);
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0] = l;
  return a + e + (c + g) + (b + f + (d + h));
}

/** Sums of each head and channel, frame by frame. */
class Channels {
  private readonly u: number[] = [];
  private readonly v: number[] = [];
  private tokens = 0;

  add(frame: Frame, turned: Float32Array): void {
    for (let head = 0; head < frame.heads; head++) {
      for (let i = 0; i < frame.dim; i++) {
        let [u, v] = [0, 0];
        for (let token = 0; token < frame.tokens; token++) {
          const x = turned[(head * frame.tokens + token) * frame.dim + i] ?? 0;
          u += x;
          v += x * x;
        }
        const channel = head * frame.dim + i;
        this.u[channel] = (this.u[channel] ?? 0) + u;
        this.v[channel] = (this.v[channel] ?? 0) + v;
      }
    }
    this.tokens += frame.tokens;
  }

  spread(): number {
    return this.u.reduce((all, u, i) => all + Math.max((this.v[i] ?? 0) - (u * u) / this.tokens, 0), 0);
  }
}

/** COD-Q-1, of one bank's entry in the section: its record, and what was measured of the codec that was asked for. */
export function checkReceipt(entry: Uint8Array, lossy: boolean, asked: boolean): void {
  const numbers = view(entry);
  const at = (i: number): number => numbers.getFloat64(8 * i, true);
  const errors = lossy ? [0, 1, 3] : [];
  if (lossy) require([0, 1, 2, 3].every((i) => Number.isFinite(at(i))), 905);
  require(errors.every((i) => at(i) >= 0), 905);
  const first = lossy ? 4 : 0;
  if (asked) require(at(first) >= 0 && at(first + 1) >= 0, 905);
}
