// Typed access to items: what does not have the type of its CDDL is refused with the caller's code.

import { view } from "./bytes.js";
import type { Item } from "./cbor.js";
import { MAX_U32 } from "./limits.js";
import { refuse, require } from "./refusal.js";

/** Reads the values of one document, whose type errors have one code. */
export class Fields {
  constructor(readonly code: number) {}

  wrong(): never {
    return refuse(this.code);
  }

  /** A map whose keys are integers: those that are required, and those that may be there. */
  map(item: Item, required: readonly number[], optional: readonly number[] = []): Map<number, Item> {
    if (item.kind !== "map") this.wrong();
    const found = new Map<number, Item>();
    for (const [key, value] of item.entries) {
      if (key.kind !== "int") this.wrong();
      const label = Number(key.value);
      if (!required.includes(label) && !optional.includes(label)) this.wrong();
      found.set(label, value);
    }
    for (const label of required) require(found.has(label), this.code);
    return found;
  }

  array(item: Item): Item[] {
    return item.kind === "array" ? item.items : this.wrong();
  }

  /** An array of exactly `length` items. */
  tuple(item: Item, length: number): Item[] {
    const items = this.array(item);
    require(items.length === length, this.code);
    return items;
  }

  int(item: Item): bigint {
    return item.kind === "int" ? item.value : this.wrong();
  }

  uint(item: Item): bigint {
    const value = this.int(item);
    require(value >= 0n, this.code);
    return value;
  }

  u32(item: Item): number {
    const value = this.uint(item);
    require(value <= MAX_U32, this.code);
    return Number(value);
  }

  /** One of a few small numbers. */
  oneOf(item: Item, ...allowed: number[]): number {
    const value = Number(this.uint(item));
    require(allowed.includes(value), this.code);
    return value;
  }

  bytes(item: Item, length?: number): Uint8Array {
    if (item.kind !== "bytes") this.wrong();
    require(length === undefined || item.value.length === length, this.code);
    return item.value;
  }

  bool(item: Item): boolean {
    return item.kind === "bool" ? item.value : this.wrong();
  }

  /** A text of `least` to 1,024 bytes without control characters (CAP-M-7, CAP-E-9). */
  text(item: Item, least = 0): string {
    if (item.kind !== "text") this.wrong();
    require(item.bytes.length >= least && item.bytes.length <= 1024, this.code);
    require(!/[\u0000-\u001f\u007f-\u009f]/.test(item.value), this.code);
    return item.value;
  }

  /** A finite binary64 (CAP-M-9), as its eight bytes. */
  f64(item: Item): Uint8Array {
    const bytes = this.bytes(item, 8);
    require(Number.isFinite(view(bytes).getFloat64(0, true)), this.code);
    return bytes;
  }
}

/** The value of a key that `Fields.map` has found. */
export function of(map: Map<number, Item>, label: number): Item {
  return map.get(label) ?? refuse(501, `key ${label}`);
}
