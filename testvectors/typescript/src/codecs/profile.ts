// Profiles of tc: means and weights of a model's banks (codecs-v1 §12.7).

import { b3 } from "../hashes.js";
import { view } from "../bytes.js";
import { refuse, require } from "../refusal.js";
import { fitsProfile } from "./registry.js";

const MAGIC = "KVTCPROF";
const HEADER = 48;
const ENTRY = 12;
const LARGEST = 256 << 20;
const MAX_SHIFT = 8;

/** What a profile knows of a bank. Of transform 1 `size`, the number of components that mix, is a head's. */
export interface Fitted {
  transform: number;
  heads: number;
  dim: number;
  size: number;
  mean: Float32Array;
  /** Shifted, `[component][channel of its block]`. */
  weights: Float64Array;
}

export interface Place {
  layer: number;
  role: number;
}

interface Entry extends Place {
  transform: number;
  heads: number;
  dim: number;
}

export class Profile {
  private constructor(
    readonly modelId: Uint8Array,
    private readonly banks: ReadonlyMap<string, Fitted>,
  ) {}

  /** COD-F-1 to COD-F-4. */
  static parse(file: Uint8Array): Profile {
    require(file.length >= HEADER && file.length <= LARGEST, 909);
    const from = view(file);
    const [version, count, points, zero] = [8, 10, 12, 14].map((at) => from.getUint16(at, true));
    require(Buffer.from(file.subarray(0, 8)).toString("latin1") === MAGIC && version === 1 && zero === 0, 909);
    require(count !== undefined && points !== undefined && count >= 1 && count <= 4096 && points <= 64, 909);
    const pointsAt = HEADER + ENTRY * count;
    const banksAt = pointsAt + points * (4 + 2 * count);
    require(banksAt <= file.length, 909);
    const entries = Array.from({ length: count }, (_, i) => readEntry(from, HEADER + ENTRY * i));
    const ascending = (a: Entry, b: Entry): boolean => a.layer < b.layer || (a.layer === b.layer && a.role < b.role);
    require(entries.every((entry, i) => ascending(entries[i - 1] ?? { ...entry, layer: -1 }, entry)), 909);
    checkPoints(from, pointsAt, points, entries);
    const lengths = entries.map(({ transform, heads, dim }) => 9 * heads * dim + 3 * matrix(transform, heads, dim));
    require(lengths.reduce((sum, length) => sum + length, banksAt) === file.length, 909);
    const banks = new Map<string, Fitted>();
    let at = banksAt;
    entries.forEach((entry, i) => {
      banks.set(nameOf(entry), readBank(from, at, entry));
      at += lengths[i] ?? 0;
    });
    return new Profile(file.slice(16, HEADER), banks);
  }

  /** COD-F-6, for a bank of index 0. */
  fitted(place: Place, transform: number, heads: number, dim: number): Fitted {
    const found = this.banks.get(nameOf(place)) ?? refuse(909);
    require(found.transform === transform && found.heads === heads && found.dim === dim, 909);
    return found;
  }
}

export const profileDigest = (file: Uint8Array): Uint8Array => b3("kvcap v1 codec profile", file);

const nameOf = ({ layer, role }: Place): string => `${layer}:${role}`;

const matrix = (transform: number, heads: number, dim: number): number =>
  transform === 1 ? heads * dim * dim : heads * dim * heads * dim;

function readEntry(from: DataView, at: number): Entry {
  const [role, transform] = [from.getUint8(at + 4), from.getUint8(at + 5)];
  const [heads, dim, zero] = [from.getUint16(at + 6, true), from.getUint16(at + 8, true), from.getUint16(at + 10, true)];
  require(role <= 3 && (transform === 1 || transform === 2) && zero === 0, 909);
  require(fitsProfile(transform, BigInt(heads), BigInt(dim)), 909);
  return { layer: from.getUint32(at, true), role, transform, heads, dim };
}

/** COD-F-3. */
function checkPoints(from: DataView, start: number, count: number, entries: readonly Entry[]): void {
  let before: { promised: number; weight: number } | null = null;
  for (let point = 0; point < count; point++) {
    const at = start + point * (4 + 2 * entries.length);
    const promised = from.getUint32(at, true);
    let weight = 0;
    entries.forEach(({ heads, dim }, i) => {
      const rate = from.getUint16(at + 4 + 2 * i, true);
      require(rate >= 16 && rate <= 1024, 909);
      weight += rate * heads * dim;
    });
    require(before === null || (weight > before.weight && promised < before.promised), 909);
    before = { promised, weight };
  }
}

/** COD-F-4. */
function readBank(from: DataView, start: number, { transform, heads, dim }: Entry): Fitted {
  const channels = heads * dim;
  const size = transform === 1 ? dim : channels;
  const [shiftsAt, weightsAt] = [start + 4 * channels, start + 5 * channels];
  const scaleAt = weightsAt + channels * size;
  const mean = Float32Array.from({ length: channels }, (_, i) => from.getFloat32(start + 4 * i, true));
  for (let i = 0; i < channels; i++) require(Number.isFinite(from.getFloat32(scaleAt + 4 * i, true)), 909);
  require(mean.every(Number.isFinite), 909);
  const weights = Float64Array.from({ length: channels * size }, (_, i) => {
    const [weight, shift] = [from.getInt8(weightsAt + i), from.getUint8(shiftsAt + Math.floor(i / size))];
    require(weight !== -128 && shift <= MAX_SHIFT, 909);
    return weight * 2 ** shift;
  });
  return { transform, heads, dim, size, mean, weights };
}

/** For each channel the sum of `numbers[component]` by its weights: a signed number modulo 2^32. */
export function sums({ size, weights }: Fitted, numbers: readonly number[]): Int32Array {
  const found = new Int32Array(numbers.length);
  for (let block = 0; block < numbers.length; block += size) {
    const exact = new Float64Array(size); // below 2^53: 2^10 products of 15 bits by 15
    for (let c = 0; c < size; c++) {
      const number = numbers[block + c] ?? 0;
      const row = (block + c) * size;
      for (let d = 0; number !== 0 && d < size; d++) exact[d] = (exact[d] ?? 0) + number * (weights[row + d] ?? 0);
    }
    for (let d = 0; d < size; d++) found[block + d] = Number(BigInt.asIntN(32, BigInt(exact[d] ?? 0)));
  }
  return found;
}
