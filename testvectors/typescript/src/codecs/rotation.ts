// Rotary embedding as q4c and receipts turn it (codecs-v1 §7.1, §7.2).

import { require } from "../refusal.js";
import { f64FromBits, lowBits } from "./numbers.js";

const bits = f64FromBits;
const TWO_OVER_PI = bits(0x3fe45f306dc9c883n);
const WHOLE = bits(0x4338000000000000n);
const HALF_PI = [0x3ff921fb00000000n, 0x3e95110b00000000n, 0x3d318469898cc517n].map(bits) as [number, number, number];
const S = [
  0xbfc5555555555549n, 0x3f8111111110f8a6n, 0xbf2a01a019c161d5n, 0x3ec71de357b1fe7dn, 0xbe5ae5e68a2b9cebn,
  0x3de5d93a5acfd57cn,
].map(bits);
const C = [
  0x3fa555555555554cn, 0xbf56c16c16c15177n, 0x3efa01a019cb1590n, 0xbe927e4f809c52adn, 0x3e21ee9ebdb4b1c4n,
  0xbda8fae9be8838d4n,
].map(bits);

const horner = (coefficients: readonly number[], z: number): number =>
  coefficients.reduceRight((sum, coefficient) => coefficient + z * sum);

/** Sine and cosine to the last bit (§7.2). */
export function sinCos(a: number): [sin: number, cos: number] {
  const t = a * TWO_OVER_PI + WHOLE;
  const n = t - WHOLE;
  const quadrant = lowBits(t) & 3;
  const r = a - n * HALF_PI[0] - n * HALF_PI[1] - n * HALF_PI[2];
  const z = r * r;
  const sn = r + r * z * horner(S, z);
  const cs = 1 - z * 0.5 + z * z * horner(C, z);
  switch (quadrant) {
    case 0:
      return [sn, cs];
    case 1:
      return [cs, -sn];
    case 2:
      return [-sn, -cs];
    default:
      return [-cs, sn];
  }
}

const round = Math.fround;

/** Pairs of a row and the position of each row. */
export class Turns {
  constructor(
    private readonly pairing: number,
    private readonly frequencies: readonly number[],
    private readonly position: (row: number) => bigint | null,
    private readonly rows: number,
  ) {}

  /** COD-K-1: the pairs, the frequencies, the rows. */
  check(dim: number): void {
    require(2 * this.frequencies.length <= dim, 903);
    require(this.frequencies.every(Number.isFinite), 905);
    const fastest = this.frequencies.reduce((most, frequency) => Math.max(most, Math.abs(frequency)), 0);
    for (let row = 0; row < this.rows; row++) {
      const position = this.position(row);
      require(position !== null, 903);
      require(position <= 2n ** 53n && position >= -(2n ** 53n), 903);
      require(Math.abs(Number(position)) * fastest <= 2 ** 30, 904);
    }
  }

  /** f32 sines and cosines of one row. */
  angles(row: number): { sin: Float32Array; cos: Float32Array } {
    const position = Number(this.position(row) ?? 0n);
    const pairs = this.frequencies.map((frequency) => sinCos(position * frequency));
    return { sin: Float32Array.from(pairs, (p) => p[0]), cos: Float32Array.from(pairs, (p) => p[1]) };
  }

  /** Turns `dim` elements from `at` on forth (decoding) or back. */
  turn(elements: Float32Array, at: number, { sin, cos }: { sin: Float32Array; cos: Float32Array }, back: boolean): void {
    const pairs = this.frequencies.length;
    for (let i = 0; i < pairs; i++) {
      const first = at + (this.pairing === 0 ? i : 2 * i);
      const second = this.pairing === 0 ? first + pairs : first + 1;
      const [x, y] = [elements[first] ?? 0, elements[second] ?? 0];
      const [c, s] = [cos[i] ?? 1, sin[i] ?? 0];
      elements[first] = back ? round(x * c) + round(y * s) : round(x * c) - round(y * s);
      elements[second] = back ? round(y * c) - round(x * s) : round(y * c) + round(x * s);
    }
  }
}
