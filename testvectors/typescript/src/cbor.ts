// The CBOR profile of capsule-v1 §5.1 (CAP-C-1 … CAP-C-5): one strict pass over the raw bytes.

import { compare } from "./bytes.js";
import { refuse } from "./refusal.js";

const MAX_DEPTH = 8;
const MAX_ITEMS = 262_144;
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Where an item stands in the bytes that were read. */
interface Place {
  start: number;
  end: number;
}

export type Item = Place &
  (
    | { kind: "int"; value: bigint }
    | { kind: "bytes"; value: Uint8Array }
    | { kind: "text"; value: string; bytes: Uint8Array }
    | { kind: "bool"; value: boolean }
    | { kind: "array"; items: Item[] }
    | { kind: "map"; entries: [key: Item, value: Item][] }
  );

export interface Head {
  major: number;
  argument: bigint;
}

/** Reads heads and items from first to last byte; the first broken rule gives the code. */
export class Reader {
  at = 0;
  private items = 0;

  constructor(
    readonly bytes: Uint8Array,
    /** Judges each key of the outermost map before its value is read (CAP-E-7). */
    private readonly onOuterKey: (key: Item) => void = () => {},
  ) {}

  byte(): number {
    return this.bytes[this.at] ?? refuse(201);
  }

  take(length: bigint): Uint8Array {
    if (length > BigInt(this.bytes.length - this.at)) refuse(201);
    const taken = this.bytes.subarray(this.at, this.at + Number(length));
    this.at += Number(length);
    return taken;
  }

  /** A head: orders 1 to 6 of the table in §5.1. */
  head(): Head {
    const first = this.byte();
    const major = first >> 5;
    const info = first & 31;
    if (info >= 28 && info <= 30) refuse(201);
    if (info === 31 && [0, 1, 6, 7].includes(major)) refuse(201);
    if (major === 6 || (major === 7 && info !== 20 && info !== 21)) refuse(205);
    if (info === 31) refuse(202);
    this.at += 1;
    if (info < 24) return { major, argument: BigInt(info) };
    const width = 1 << (info - 24);
    let argument = 0n;
    for (const byte of this.take(BigInt(width))) argument = (argument << 8n) | BigInt(byte);
    const least = width === 1 ? 24n : 1n << BigInt(4 * width);
    if (argument < least) refuse(202);
    return { major, argument };
  }

  item(depth = 0): Item {
    const start = this.at;
    const { major, argument } = this.head();
    this.items += 1;
    if (this.items > MAX_ITEMS) refuse(204);
    switch (major) {
      case 0:
        return { kind: "int", value: argument, start, end: this.at };
      case 1:
        return { kind: "int", value: -1n - argument, start, end: this.at };
      case 2: {
        const value = this.take(argument);
        return { kind: "bytes", value, start, end: this.at };
      }
      case 3: {
        const bytes = this.take(argument);
        return { kind: "text", value: this.utf8(bytes), bytes, start, end: this.at };
      }
      case 7:
        return { kind: "bool", value: argument === 21n, start, end: this.at };
      default: {
        if (depth === MAX_DEPTH) refuse(204);
        const count = major === 4 ? argument : 2n * argument;
        if (count > BigInt(MAX_ITEMS - this.items)) refuse(204);
        return major === 4
          ? this.array(Number(argument), depth + 1, start)
          : this.map(Number(argument), depth + 1, start);
      }
    }
  }

  private array(count: number, depth: number, start: number): Item {
    const items: Item[] = [];
    for (let i = 0; i < count; i++) items.push(this.item(depth));
    return { kind: "array", items, start, end: this.at };
  }

  private map(count: number, depth: number, start: number): Item {
    const entries: [Item, Item][] = [];
    let before: Uint8Array | null = null;
    for (let i = 0; i < count; i++) {
      const key = this.item(depth);
      if (key.kind !== "int" && key.kind !== "text") refuse(205);
      const encoded = this.bytes.subarray(key.start, key.end);
      const order = before === null ? 1 : compare(encoded, before);
      if (order === 0) refuse(203);
      if (order < 0) refuse(202);
      before = encoded;
      if (depth === 1) this.onOuterKey(key);
      entries.push([key, this.item(depth)]);
    }
    return { kind: "map", entries, start, end: this.at };
  }

  private utf8(bytes: Uint8Array): string {
    try {
      return decoder.decode(bytes);
    } catch {
      return refuse(201);
    }
  }

  finish(): void {
    if (this.at !== this.bytes.length) refuse(206);
  }
}

/** One item and nothing behind it. */
export function parse(bytes: Uint8Array): Item {
  const reader = new Reader(bytes);
  const item = reader.item();
  reader.finish();
  return item;
}
