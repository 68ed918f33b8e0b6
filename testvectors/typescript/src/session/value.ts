// Values of a session: JSON for people, CBOR for digests (session-v1 §2).

import { type Bytes, compare, concat, text } from "../bytes.js";
import { type Item, parse } from "../cbor.js";
import { refuse, require } from "../refusal.js";

export type Value = string | number | boolean | Value[] | Members;
export interface Members {
  [name: string]: Value;
}

const MOST = Number.MAX_SAFE_INTEGER;
const MAX_DEPTH = 8;

export const isMembers = (value: Value | undefined): value is Members =>
  typeof value === "object" && !Array.isArray(value);

/** Members without a prototype, so that no name is special. */
function members(entries: Iterable<[string, Value]>): Members {
  const made = Object.create(null) as Members;
  for (const [name, value] of entries) made[name] = value;
  return made;
}

/** Depth of a value: 0 for what is no list and no object. */
export function levels(value: Value): number {
  if (typeof value !== "object") return 0;
  return 1 + Math.max(0, ...(Array.isArray(value) ? value : Object.values(value)).map(levels));
}

/** Reads JSON by SES-J-2, which `JSON.parse` is too lenient for. */
export function readJson(json: string): Value {
  const reader = new JsonReader(json);
  const value = reader.value();
  reader.end();
  require(levels(value) <= MAX_DEPTH, 204);
  return value;
}

class JsonReader {
  private at = 0;

  constructor(private readonly json: string) {}

  end(): void {
    this.space();
    require(this.at === this.json.length, 950);
  }

  value(): Value {
    this.space();
    const first = this.json[this.at];
    if (first === '"') return this.string();
    if (first === "{") return this.object();
    if (first === "[") return this.list();
    for (const [word, value] of [["true", true], ["false", false]] as const) {
      if (this.json.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    }
    const digits = /^-?(0|[1-9]\d*)(?![\d.eE])/.exec(this.json.slice(this.at, this.at + 32))?.[0] ?? refuse(950);
    const number = Number(digits);
    require(digits !== "-0" && Math.abs(number) <= MOST, 950);
    this.at += digits.length;
    return number;
  }

  private object(): Members {
    const entries = new Map<string, Value>();
    this.each("}", () => {
      this.space();
      const name = this.string();
      require(!entries.has(name), 950);
      this.space();
      this.expect(":");
      entries.set(name, this.value());
    });
    return members(entries);
  }

  private list(): Value[] {
    const items: Value[] = [];
    this.each("]", () => items.push(this.value()));
    return items;
  }

  private each(close: string, one: () => void): void {
    this.at += 1;
    this.space();
    if (this.json[this.at] === close) {
      this.at += 1;
      return;
    }
    for (;;) {
      one();
      this.space();
      if (this.json[this.at] === close) break;
      this.expect(",");
    }
    this.at += 1;
  }

  private string(): string {
    const found = /^"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/.exec(this.json.slice(this.at))?.[0] ?? refuse(950);
    this.at += found.length;
    const value = JSON.parse(found) as string;
    require(!/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.test(value), 950);
    return value;
  }

  private expect(character: string): void {
    require(this.json[this.at] === character, 950);
    this.at += 1;
  }

  private space(): void {
    while (" \t\n\r".includes(this.json[this.at] ?? "x")) this.at += 1;
  }
}

/** Reads CBOR: SES-J-1 over the whole item, then SES-J-2. */
export function readCbor(bytes: Uint8Array): Value {
  return valueOf(parse(bytes));
}

function valueOf(item: Item): Value {
  switch (item.kind) {
    case "text":
      return item.value;
    case "bool":
      return item.value;
    case "int":
      require(item.value <= BigInt(MOST) && item.value >= -BigInt(MOST), 950);
      return Number(item.value);
    case "array":
      return item.items.map(valueOf);
    case "map":
      return members(item.entries.map(([key, value]) => [key.kind === "text" ? key.value : refuse(950), valueOf(value)]));
    case "bytes":
      return refuse(950);
  }
}

export function toCbor(value: Value): Bytes {
  if (typeof value === "boolean") return new Uint8Array([value ? 0xf5 : 0xf4]);
  if (typeof value === "number") return value < 0 ? head(1, -1 - value) : head(0, value);
  if (typeof value === "string") {
    const bytes = text(value);
    return concat(head(3, bytes.length), bytes);
  }
  if (Array.isArray(value)) return concat(head(4, value.length), ...value.map(toCbor));
  const pairs = Object.entries(value).map(([name, member]) => [toCbor(name), toCbor(member)] as const);
  pairs.sort(([a], [b]) => compare(a, b));
  return concat(head(5, pairs.length), ...pairs.flat());
}

function head(major: number, n: number): Bytes {
  const type = major << 5;
  if (n < 24) return new Uint8Array([type | n]);
  const width = n < 2 ** 8 ? 1 : n < 2 ** 16 ? 2 : n < 2 ** 32 ? 4 : 8;
  const out = new Uint8Array(1 + width);
  out[0] = type | (24 + Math.log2(width));
  let rest = BigInt(n);
  for (let i = width; i > 0; i--) {
    out[i] = Number(rest & 255n);
    rest >>= 8n;
  }
  return out;
}

/** JSON without spaces, keys in the order of their bytes (SES-X-3). */
export function toJson(value: Value): string {
  if (typeof value === "string") return `"${escape(value)}"`;
  if (typeof value !== "object") return String(value);
  if (Array.isArray(value)) return `[${value.map(toJson).join(",")}]`;
  const names = Object.keys(value).sort((a, b) => compare(text(a), text(b)));
  return `{${names.map((name) => `${toJson(name)}:${toJson(value[name] ?? "")}`).join(",")}}`;
}

const SHORT = new Map([['"', '\\"'], ["\\", "\\\\"], ["\b", "\\b"], ["\t", "\\t"], ["\n", "\\n"], ["\f", "\\f"], ["\r", "\\r"]]);

function escape(value: string): string {
  return value.replace(/["\\\u0000-\u001f]/g, (c) => SHORT.get(c) ?? `\\u00${c.charCodeAt(0).toString(16).padStart(2, "0")}`);
}
