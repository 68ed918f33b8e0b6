// One stream of the manifest: a bank or a section (capsule-v1 §7).

import type { Item } from "./cbor.js";
import { type Codec, codecOf, type Dtype, dtypeOf, isLossy, type Shape } from "./codecs/registry.js";
import { Fields, of } from "./fields.js";
import type { Limits } from "./limits.js";
import { refuse, require } from "./refusal.js";

const fields: Fields = new Fields(501);

export type Rows = { kind: "from"; start: bigint } | { kind: "listed"; stream: number } | { kind: "none" };

export interface Bank {
  kind: "bank";
  role: number;
  layer: number;
  index: number;
  dtype: Dtype;
  shape: Shape;
  rows: Rows;
  window: bigint;
  codec: Codec;
  asked: Codec | null;
  rotation: number | null;
  hadamard: number | null;
  plainLen: bigint;
  chunkLen: number;
}

export interface Section {
  kind: "section";
  section: number;
  name: string;
  plainLen: bigint;
  chunkLen: number;
}

export type Stream = Bank | Section;

export const ROLE = { key: 0, value: 1, latent: 2, ropeKey: 3, last: 7 } as const;
export const SECTION = { tokens: 1, positions: 5, prefix: 6, other: 7, receipts: 8 } as const;

export const isLossyBank = (bank: Bank): boolean => isLossy(bank.codec);
/** By position: rows `[0, start]` without window (lineage-v1 §2). */
export const byPosition = (bank: Bank): boolean => bank.rows.kind === "from" && bank.window === 0n;
export const identity = (bank: Bank): string => `${bank.role}/${bank.layer}/${bank.index}`;

export function readStream(item: Item, limits: Limits): Stream {
  if (item.kind !== "map") fields.wrong();
  const kind = item.entries.find(([key]) => key.kind === "int" && key.value === 1n)?.[1];
  if (kind === undefined) fields.wrong();
  return fields.oneOf(kind, 0, 1) === 0 ? readBank(item, limits) : readSection(item);
}

function readBank(item: Item, limits: Limits): Bank {
  const map = fields.map(item, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [12, 13, 14]);
  const asked = map.get(12);
  const rotation = map.get(13);
  const hadamard = map.get(14);
  const role = fields.uint(of(map, 2));
  require(role <= BigInt(ROLE.last), 501);
  const block = hadamard === undefined ? null : fields.u32(hadamard);
  require(block !== 0, 501);
  return {
    kind: "bank",
    role: Number(role),
    layer: fields.u32(of(map, 3)),
    index: fields.u32(of(map, 4)),
    dtype: readDtype(of(map, 5)),
    shape: readShape(of(map, 6), limits),
    rows: readRows(of(map, 7)),
    window: fields.uint(of(map, 8)),
    codec: readCodec(of(map, 9)),
    asked: asked === undefined ? null : readCodec(asked),
    rotation: rotation === undefined ? null : fields.u32(rotation),
    hadamard: block,
    plainLen: fields.uint(of(map, 10)),
    chunkLen: readChunkLen(of(map, 11)),
  };
}

function readSection(item: Item): Section {
  const map = fields.map(item, [1, 2, 3, 10, 11]);
  const section = Number(fields.uint(of(map, 2)));
  require(section >= 1 && section <= 8, 501);
  const name = fields.text(of(map, 3));
  require((section === SECTION.other) === (name !== ""), 501);
  return { kind: "section", section, name, plainLen: fields.uint(of(map, 10)), chunkLen: readChunkLen(of(map, 11)) };
}

/** CAP-T-4. */
function readChunkLen(item: Item): number {
  const length = fields.uint(item);
  require(length >= 4096n && length <= 16n << 20n, 503);
  return Number(length);
}

/** CAP-S-10. */
function readDtype(item: Item): Dtype {
  const numbers = item.kind === "array" ? item.items : [item];
  if (item.kind === "array") require(numbers.length === 4, 501);
  const found = numbers.map((number) => Number(fields.uint(number)));
  if (item.kind === "array") require(found[0] === 48, 501);
  return dtypeOf(found) ?? refuse(501);
}

function readShape(item: Item, limits: Limits): Shape {
  const [kind, ...dimensions] = fields.array(item).map((number) => fields.uint(number));
  require(dimensions.length <= limits.dimensions, 503);
  if (kind === 1n) return { kind: "whole", dimensions };
  const [heads, tokens, dim] = dimensions;
  require(kind === 0n && dimensions.length === 3, 501);
  return { kind: "tokens", heads: heads ?? 0n, tokens: tokens ?? 0n, dim: dim ?? 0n };
}

function readRows(item: Item): Rows {
  const [kind, value] = fields.array(item);
  const length = fields.array(item).length;
  if (kind === undefined) fields.wrong();
  switch (fields.oneOf(kind, 0, 1, 2)) {
    case 0:
      require(length === 2 && value !== undefined, 501);
      return { kind: "from", start: fields.uint(value) };
    case 1:
      require(length === 2 && value !== undefined, 501);
      return { kind: "listed", stream: fields.u32(value) };
    default:
      require(length === 1, 501);
      return { kind: "none" };
  }
}

function readCodec(item: Item): Codec {
  return codecOf(fields.array(item).map((number) => Number(fields.uint(number))));
}
