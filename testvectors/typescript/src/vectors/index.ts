// The vectors' files (testvectors/README.md).

import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";

/** An unsigned integer, as text where JSON's numbers would not hold it. */
export type Uint = number | string;

export interface TrustEntry {
  key: string;
  issuer: string;
  for_capsules: boolean;
  suites: number[];
  not_before: Uint;
  sign_until: Uint | null;
  verify_until: Uint | null;
  compromised: boolean;
}

export type Scaling = (Uint | string | boolean | Scaling)[];

export interface ExpectedEntry {
  model: {
    id: string;
    vocab: string;
    vocab_size: number;
    pre_tokenizer: string;
    specials: [string, number][];
    chat_template: string | null;
    rope: { layers: number[]; pairing: number; rotary_dims: number; theta: string; scaling: Scaling }[];
  } | null;
  runtime: [string, string | null] | null;
  layout: [string, [string, string][]] | null;
  dtypes: [string, string] | null;
  positions: [Uint, Uint] | null;
  prefix: { tokens: number[]; key: string | null } | null;
  banks: [number, number][];
  capsule: string | null;
  session: [string, Uint | null, Uint | null] | null;
}

export interface Context {
  now: Uint;
  later: Uint | null;
  trust: TrustEntry[];
  audiences: string[];
  subject: string | null;
  organisation: string | null;
  scope: string;
  max_lifetime: Uint;
  skew: Uint;
  suites: number[];
  limits: Partial<Record<"envelope" | "tables" | "streams" | "recipients" | "layers" | "adapters" | "dimensions" | "budget" | "chain", Uint>>;
  expected: ExpectedEntry;
  wrapping_key: string | null;
  wrapping_type: number;
  parents: string[];
  registry: {
    root: string;
    files: string[];
    seen: [Uint, string] | null;
    statement?: string;
    issuers?: string[];
    seen_roots?: [Uint, string];
  } | null;
  memory: { latest: Uint | null; opened: string[] } | null;
  reads: { stream: number; start: Uint; end: Uint }[];
}

export interface Vector {
  name: string;
  file: string;
  sha256: string;
  context: Partial<Context>;
  code: number;
  public: number;
  stage: string;
  released: { len: number; sha256: string };
  streams?: { len: number; sha256: string; bank: string | null }[];
}

export interface Index {
  default_context: Context;
  vectors: Vector[];
}

/** Parses JSON whose numbers of 16 digits and more are kept as text. */
export function parseExact(json: string): unknown {
  return JSON.parse(json.replace(/(?<=[:[,]\s*)-?\d{16,}(?=\s*[,\]}])/g, '"$&"'));
}

export function readIndex(folder: string): Index {
  return parseExact(readFileSync(join(folder, "manifest.json"), "utf8")) as Index;
}

/** The content of a file, which may be stored by gzip. */
export function readContent(folder: string, name: string): Uint8Array {
  const path = join(folder, name);
  const stored = existsSync(path) ? readFileSync(path) : gunzipSync(readFileSync(`${path}.gz`));
  const bytes = path.endsWith(".gz") && existsSync(path) ? gunzipSync(stored) : stored;
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
