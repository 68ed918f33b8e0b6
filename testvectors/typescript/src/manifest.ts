// The manifest (capsule-v1 §6): its CDDL, and the rules of its fields by themselves.

import { type Item, parse } from "./cbor.js";
import { compare, text } from "./bytes.js";
import { Fields, of } from "./fields.js";
import { type Limits } from "./limits.js";
import { refuse, require } from "./refusal.js";
import { readStream, type Stream } from "./stream.js";

const fields: Fields = new Fields(501);

export interface Model {
  id: Uint8Array;
  weights: Uint8Array;
  config: Uint8Array;
  adapters: { digest: Uint8Array; factor: Uint8Array }[];
}

export interface Tokenizer {
  vocabulary: Uint8Array;
  size: number;
  preTokenizer: string;
  specials: [name: string, id: number][];
  chatTemplate: Uint8Array | null;
}

export interface Runtime {
  name: string;
  version: string;
  format: string;
  facts: [name: string, value: string][];
}

export interface Rope {
  layers: number[];
  pairing: number;
  dims: number;
  theta: Uint8Array;
  /** The array as it is encoded: two are equal where these bytes are. */
  scaling: Uint8Array;
  /** The whole entry as it is encoded. */
  raw: Uint8Array;
}

export type Prefix =
  | { scheme: 0 }
  | { scheme: 1; keyId: Uint8Array; commitment: Uint8Array; count: bigint }
  | { scheme: 2; commitment: Uint8Array; count: bigint };

/** A rotation table: inputs of a codec. */
export interface Rotation {
  pairing: number;
  frequencies: Uint8Array;
}

export interface Range {
  start: bigint;
  end: bigint;
}

export interface Recipient {
  type: number;
  keyId: Uint8Array;
  /** The nonce of type 1, the encapsulation of types 2 and 3. */
  sent: Uint8Array;
  wrapped: Uint8Array;
}

export interface Manifest {
  /** Raw bytes of the values of keys 2 and 3. */
  rawContext: Uint8Array;
  rawMeasured: Uint8Array;
  suite: number;
  model: Model;
  tokenizer: Tokenizer;
  runtime: Runtime;
  ropes: Rope[];
  prefix: Prefix;
  positions: Range;
  captureFlags: number;
  layers: number;
  stateless: number[];
  rotations: Rotation[];
  streams: Stream[];
  parent: { lineage: Uint8Array; positions: Range } | null;
  baseImage: boolean;
  /** Digest of the profile that codecs decode with. */
  profile: Uint8Array | null;
  measured: { encodedLen: bigint; table: Uint8Array }[];
  salt: Uint8Array;
  commitment: Uint8Array;
  recipients: Recipient[];
  tablesLen: bigint;
}

/** The payload of an envelope, by CAP-C-1 … CAP-C-5 and then by the CDDL. */
export function readManifest(payload: Uint8Array, limits: Limits): Manifest {
  const item = parse(payload);
  const raw = (place: Item): Uint8Array => payload.subarray(place.start, place.end);
  const map = fields.map(item, [1, 2, 3, 4, 5], [6]);
  require(fields.uint(of(map, 1)) === 1n, 507);
  const context = fields.map(of(map, 2), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], [13, 14, 15]);
  const suite = fields.uint(of(context, 1));
  require(suite === 1n || suite === 2n, 502);
  fields.uint(of(context, 9));
  const [layers, stateless] = readLayers(of(context, 10), limits);
  const keys = fields.map(of(map, 4), [1, 2, 3]);
  const parent = context.get(13);
  const base = context.get(14);
  const profile = context.get(15);
  const extensions = map.get(6);
  if (base !== undefined) fields.oneOf(base, 1);
  if (extensions !== undefined) readExtensions(extensions);
  const flags = fields.uint(of(context, 8));
  require(flags < 8n, 501);
  return {
    rawContext: raw(of(map, 2)),
    rawMeasured: raw(of(map, 3)),
    suite: Number(suite),
    model: readModel(of(context, 2), limits),
    tokenizer: readTokenizer(of(context, 3)),
    runtime: readRuntime(of(context, 4)),
    ropes: limited(of(context, 5), limits.layers).map((entry) => readRope(entry, raw, limits)),
    prefix: readPrefix(of(context, 6)),
    positions: readRange(of(context, 7)),
    captureFlags: Number(flags),
    layers,
    stateless,
    rotations: limited(of(context, 11), limits.layers).map(readRotation),
    streams: atLeastOne(limited(of(context, 12), limits.streams)).map((entry) => readStream(entry, limits)),
    parent: parent === undefined ? null : readParent(parent),
    baseImage: base !== undefined,
    profile: profile === undefined ? null : fields.bytes(profile, 32),
    measured: atLeastOne(fields.array(of(map, 3))).map(readMeasured),
    salt: fields.bytes(of(keys, 1), 32),
    commitment: fields.bytes(of(keys, 2), 32),
    recipients: atLeastOne(limited(of(keys, 3), limits.recipients)).map(readRecipient),
    tablesLen: fields.uint(of(map, 5)),
  };
}

function limited(item: Item, limit: number): Item[] {
  const items = fields.array(item);
  require(items.length <= limit, 503);
  return items;
}

function atLeastOne(items: Item[]): Item[] {
  require(items.length > 0, 501);
  return items;
}

/** CAP-M-8. */
function ascending<T>(entries: T[], order: (a: T, b: T) => number): T[] {
  entries.forEach((entry, i) => {
    const before = entries[i - 1];
    require(before === undefined || order(before, entry) < 0, 501);
  });
  return entries;
}

const byName = (a: [string, unknown], b: [string, unknown]): number => compare(text(a[0]), text(b[0]));
const byNumber = (a: number, b: number): number => a - b;

function readLayers(item: Item, limits: Limits): [number, number[]] {
  const [count, stateless] = fields.tuple(item, 2) as [Item, Item];
  const layers = fields.uint(count);
  require(layers <= BigInt(limits.layers), 503);
  return [Number(layers), ascending(limited(stateless, limits.layers).map((layer) => fields.u32(layer)), byNumber)];
}

function readModel(item: Item, limits: Limits): Model {
  const map = fields.map(item, [1, 2, 3, 4, 5]);
  fields.text(of(map, 5));
  return {
    id: fields.bytes(of(map, 1), 32),
    weights: fields.bytes(of(map, 2), 32),
    config: fields.bytes(of(map, 3), 32),
    adapters: limited(of(map, 4), limits.adapters).map((entry) => {
      const [digest, factor] = fields.tuple(entry, 2) as [Item, Item];
      return { digest: fields.bytes(digest, 32), factor: fields.f64(factor) };
    }),
  };
}

function readTokenizer(item: Item): Tokenizer {
  const map = fields.map(item, [1, 2, 3, 4, 5], [6]);
  fields.text(of(map, 3));
  const template = map.get(6);
  const specials = fields.array(of(map, 5)).map((entry): [string, number] => {
    const [name, id] = fields.tuple(entry, 2) as [Item, Item];
    return [fields.text(name), fields.u32(id)];
  });
  return {
    vocabulary: fields.bytes(of(map, 1), 32),
    size: fields.u32(of(map, 2)),
    preTokenizer: fields.text(of(map, 4)),
    specials: ascending(specials, byName),
    chatTemplate: template === undefined ? null : fields.bytes(template, 32),
  };
}

function readRuntime(item: Item): Runtime {
  const map = fields.map(item, [1, 2, 3, 4]);
  const facts = fields.array(of(map, 4)).map((entry): [string, string] => {
    const [name, value] = fields.tuple(entry, 2) as [Item, Item];
    return [fields.text(name), fields.text(value)];
  });
  return {
    name: fields.text(of(map, 1)),
    version: fields.text(of(map, 2)),
    format: fields.text(of(map, 3)),
    facts: ascending(facts, byName),
  };
}

function readRope(item: Item, raw: (place: Item) => Uint8Array, limits: Limits): Rope {
  const map = fields.map(item, [1, 2, 3, 4, 5, 6, 7]);
  const offset = fields.int(of(map, 6));
  require(offset >= -(1n << 63n) && offset < 1n << 63n, 501);
  fields.oneOf(of(map, 7), 0, 1);
  checkScaling(of(map, 5));
  return {
    layers: ascending(atLeastOne(limited(of(map, 1), limits.layers)).map((layer) => fields.u32(layer)), byNumber),
    pairing: fields.oneOf(of(map, 2), 0, 1),
    dims: fields.u32(of(map, 3)),
    theta: fields.f64(of(map, 4)),
    scaling: raw(of(map, 5)),
    raw: raw(item),
  };
}

/** The values of each kind of scaling, in order (§6.4). */
const SCALINGS: readonly string[][] = [
  [],
  ["f64"],
  ["f64", "uint", "f64", "f64", "f64", "f64", "f64", "bool"],
  ["f64", "f64", "f64", "uint"],
  ["f64s", "f64s", "uint", "f64", "bool"],
  ["f64s"],
  ["f64"],
  ["u32s", "bool"],
];

function checkScaling(item: Item): void {
  const [kind, ...values] = fields.array(item);
  if (kind === undefined) fields.wrong();
  const types = SCALINGS[Number(fields.uint(kind))];
  require(types !== undefined && types.length === values.length, 501);
  values.forEach((value, i) => {
    switch (types[i]) {
      case "f64":
        return fields.f64(value);
      case "uint":
        return fields.uint(value);
      case "bool":
        return fields.bool(value);
      case "f64s":
        return atLeastOne(fields.array(value)).map((entry) => fields.f64(entry));
      default:
        return atLeastOne(fields.array(value)).map((entry) => fields.u32(entry));
    }
  });
}

function readPrefix(item: Item): Prefix {
  if (item.kind !== "map") fields.wrong();
  const scheme = item.entries.find(([key]) => key.kind === "int" && key.value === 1n)?.[1];
  if (scheme === undefined) fields.wrong();
  switch (fields.uint(scheme)) {
    case 0n:
      fields.map(item, [1]);
      return { scheme: 0 };
    case 1n: {
      const map = fields.map(item, [1, 2, 3, 4]);
      const keyId = fields.bytes(of(map, 2), 16);
      return { scheme: 1, keyId, commitment: fields.bytes(of(map, 3), 32), count: fields.uint(of(map, 4)) };
    }
    case 2n: {
      const map = fields.map(item, [1, 3, 4]);
      return { scheme: 2, commitment: fields.bytes(of(map, 3), 32), count: fields.uint(of(map, 4)) };
    }
    default:
      return refuse(501);
  }
}

function readRange(item: Item): Range {
  const [start, end] = fields.tuple(item, 2) as [Item, Item];
  return { start: fields.uint(start), end: fields.uint(end) };
}

/** CAP-M-12, CAP-M-9. */
function readRotation(item: Item): Rotation {
  const [pairing, attention, frequencies] = fields.tuple(item, 3) as [Item, Item, Item];
  fields.f64(attention);
  const bytes = fields.bytes(frequencies);
  const count = bytes.length / 8;
  require(Number.isInteger(count) && count >= 1 && count <= 1024, 501);
  const values = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let i = 0; i < count; i++) require(Number.isFinite(values.getFloat64(8 * i, true)), 501);
  return { pairing: fields.oneOf(pairing, 0, 1), frequencies: bytes };
}

function readParent(item: Item): { lineage: Uint8Array; positions: Range } {
  const map = fields.map(item, [1, 2]);
  return { lineage: fields.bytes(of(map, 1), 32), positions: readRange(of(map, 2)) };
}

function readMeasured(item: Item): { encodedLen: bigint; table: Uint8Array } {
  const [encodedLen, table] = fields.tuple(item, 2) as [Item, Item];
  const bytes = fields.bytes(encodedLen, 8);
  return {
    encodedLen: new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true),
    table: fields.bytes(table, 32),
  };
}

const SENT_LENGTHS = [0, 24, 32, 1120];

/** CAP-R-1. */
function readRecipient(item: Item): Recipient {
  const entry = new Fields(808);
  const [type, keyId, sent, wrapped] = entry.tuple(item, 4) as [Item, Item, Item, Item];
  const kind = entry.oneOf(type, 1, 2, 3);
  return {
    type: kind,
    keyId: entry.bytes(keyId, 16),
    sent: entry.bytes(sent, SENT_LENGTHS[kind]),
    wrapped: entry.bytes(wrapped, 48),
  };
}

/** CAP-M-4: no extension is known, so that none may be critical. */
function readExtensions(item: Item): void {
  const map = fields.map(item, [1, 2]);
  const critical = fields.array(of(map, 1)).map((key) => fields.uint(key));
  ascending(critical, (a, b) => (a < b ? -1 : a > b ? 1 : 0));
  const all = of(map, 2);
  if (all.kind !== "map") fields.wrong();
  require(all.entries.length > 0, 501);
  for (const [key, value] of all.entries) {
    fields.uint(key);
    fields.bytes(value);
  }
  require(critical.length === 0, 506);
}
