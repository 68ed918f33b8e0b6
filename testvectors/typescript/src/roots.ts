// Registries under several roots: statements about them, thresholds, timestamps (registry-v1 §8).

import { type Bytes, compare, concat, equal, text } from "./bytes.js";
import { type Item, parse } from "./cbor.js";
import { type Envelope, readEnvelope, TIMESTAMP, toBeSigned } from "./envelope.js";
import { Fields, of } from "./fields.js";
import { rootKeyId, rootsDigest } from "./hashes.js";
import { Refusal, refuse, require } from "./refusal.js";
import { loadPublicKey, type PublicKey, verifySignature } from "./signature.js";

const CLOCK_SKEW = 60n;
const WEEK = 604800n;
const MAX_STATEMENTS = 64;
const MAX_SIGNATURES = 32;
const MAX_ROOTS = 32;

/** What a verifier is given of a root (REG-M-5), and the issuers that it trusts it with, null for all. */
export interface Root {
  key: PublicKey | null;
  statement: Uint8Array | null;
  issuers: readonly string[] | null;
}

interface Named {
  key: PublicKey;
  issuers: ReadonlySet<string> | null;
}

export interface Statement {
  version: bigint;
  issued: bigint;
  expires: bigint;
  chain: Uint8Array;
  threshold: bigint;
  roots: Named[];
  stamps: PublicKey[];
  previous: Uint8Array | null;
  digest: Uint8Array;
  document: Document;
}

interface Stamp {
  envelope: Envelope;
  issued: bigint;
  expires: bigint;
  chain: Uint8Array;
  version: bigint;
  digest: Uint8Array;
}

export interface Bundle {
  statements: Statement[];
  newest: Statement;
  /** Roots that have signed the listing. */
  signers: Named[];
  payload: Uint8Array;
  stamp: Stamp | null;
}

interface Document {
  header: Uint8Array;
  payload: Uint8Array;
  signatures: { id: Uint8Array; signature: Uint8Array }[];
}

const fields: Fields = new Fields(313);

export function verifyOr308(key: PublicKey, message: Uint8Array, signature: Uint8Array): void {
  try {
    verifySignature(key, message, signature);
  } catch (error) {
    if (error instanceof Refusal) refuse(308);
    throw error;
  }
}

function head(major: number, length: number): Bytes {
  if (length < 24) return new Uint8Array([(major << 5) | length]);
  if (length < 1 << 8) return new Uint8Array([(major << 5) | 24, length]);
  if (length < 1 << 16) return new Uint8Array([(major << 5) | 25, length >> 8, length & 255]);
  return new Uint8Array([(major << 5) | 26, length >>> 24, (length >> 16) & 255, (length >> 8) & 255, length & 255]);
}

const byteString = (bytes: Uint8Array): Bytes => concat(head(2, bytes.length), bytes);

function textString(value: string): Bytes {
  const bytes = text(value);
  return concat(head(3, bytes.length), bytes);
}

const headerOf = (content: string, type: string): Bytes =>
  concat(new Uint8Array([0xa2, 0x03]), textString(content), new Uint8Array([0x10]), textString(type));

/** {1: -19, 4: id} */
const signatureHeader = (id: Uint8Array): Bytes => concat(new Uint8Array([0xa2, 0x01, 0x32, 0x04]), byteString(id));

const STATEMENT = headerOf("application/vnd.kvcap.roots+cbor", "application/vnd.kvcap.roots");
const LISTING = headerOf("application/vnd.kvcap.keys+cbor", "application/vnd.kvcap.registry");

const isEmptyMap = (item: Item): boolean => item.kind === "map" && item.entries.length === 0;

/** REG-M-2. */
function readDocument(bytes: Uint8Array, header: Uint8Array): Document {
  require(bytes[0] === 0xd8 && bytes[1] === 0x62, 313);
  const [own, nothing, payload, list] = fields.tuple(parse(bytes.subarray(2)), 4) as [Item, Item, Item, Item];
  require(equal(fields.bytes(own), header) && isEmptyMap(nothing), 313);
  const items = fields.array(list);
  require(items.length <= MAX_SIGNATURES, 313);
  let last: Uint8Array | null = null;
  const signatures = items.map((item) => {
    const [protectedHeader, empty, signature] = fields.tuple(item, 3) as [Item, Item, Item];
    const found = fields.bytes(protectedHeader);
    const id = found.slice(-16);
    require(equal(found, signatureHeader(id)) && isEmptyMap(empty), 313);
    require(last === null || compare(last, id) < 0, 313);
    last = id;
    return { id, signature: fields.bytes(signature, 64) };
  });
  return { header, payload: fields.bytes(payload), signatures };
}

/** REG-M-4: those of `roots` that have signed. */
function signersOf(document: Document, roots: readonly Named[]): Named[] {
  return roots.filter(({ key }) => {
    const id = rootKeyId(key.bytes);
    const found = document.signatures.find((one) => equal(one.id, id));
    if (found === undefined) return false;
    const signed = concat(
      new Uint8Array([0x85]),
      textString("Signature"),
      byteString(document.header),
      byteString(signatureHeader(id)),
      byteString(new Uint8Array(0)),
      byteString(document.payload),
    );
    verifyOr308(key, signed, found.signature);
    return true;
  });
}

function checkSignedBy(document: Document, roots: Statement): Named[] {
  const signers = signersOf(document, roots.roots);
  require(BigInt(signers.length) >= roots.threshold, 308);
  return signers;
}

function ascending(ids: Uint8Array[]): void {
  ids.forEach((id, i) => {
    const before = ids[i - 1];
    require(before === undefined || compare(before, id) < 0, 313);
  });
}

/** REG-M-3. */
function readStatement(bytes: Uint8Array): Statement {
  const document = readDocument(bytes, STATEMENT);
  const map = fields.map(parse(document.payload), [1, 2, 3, 4, 5, 6, 7, 8], [9]);
  fields.oneOf(of(map, 1), 1);
  const version = fields.uint(of(map, 2));
  const previous = map.get(9);
  require(version !== 0n && (previous !== undefined) === (version !== 1n), 313);
  const issued = fields.uint(of(map, 3));
  const expires = fields.uint(of(map, 4));
  require(issued < expires, 313);
  const chain = fields.bytes(of(map, 5), 16);
  const threshold = fields.uint(of(map, 6));
  const named = fields.array(of(map, 7));
  const stamping = fields.array(of(map, 8));
  require(named.length <= MAX_ROOTS && stamping.length <= MAX_ROOTS, 313);
  const roots = named.map(readRoot);
  const stamps = stamping.map((item) => loadPublicKey(fields.bytes(item, 32)));
  require(threshold >= 1n && threshold <= BigInt(roots.length), 313);
  ascending(roots.map(({ key }) => rootKeyId(key.bytes)));
  ascending(stamps.map((key) => rootKeyId(key.bytes)));
  require(!stamps.some((stamp) => roots.some(({ key }) => equal(key.bytes, stamp.bytes))), 302);
  return {
    version,
    issued,
    expires,
    chain,
    threshold,
    roots,
    stamps,
    previous: previous === undefined ? null : fields.bytes(previous, 32),
    digest: rootsDigest(document.payload),
    document,
  };
}

function readRoot(item: Item): Named {
  const map = fields.map(item, [1], [2]);
  const key = loadPublicKey(fields.bytes(of(map, 1), 32));
  const found = map.get(2);
  if (found === undefined) return { key, issuers: null };
  const issuers = fields.array(found).map((name) => fields.text(name, 1));
  require(issuers.length >= 1 && issuers.length <= 1024, 313);
  ascending(issuers.map((name) => text(name)));
  return { key, issuers: new Set(issuers) };
}

/** REG-M-11, its form. */
function readStamp(bytes: Uint8Array): Stamp {
  const envelope = readEnvelope(bytes, TIMESTAMP);
  const map = fields.map(parse(envelope.payload), [1, 2, 3, 4, 5, 6]);
  fields.oneOf(of(map, 1), 1);
  const issued = fields.uint(of(map, 2));
  const expires = fields.uint(of(map, 3));
  require(issued < expires && expires - issued <= WEEK, 313);
  return {
    envelope,
    issued,
    expires,
    chain: fields.bytes(of(map, 4), 16),
    version: fields.uint(of(map, 5)),
    digest: fields.bytes(of(map, 6), 32),
  };
}

/** What a root speaks for: an issuer, or all. */
type Speech = string | null;

const speaks = (root: Named, speech: Speech): boolean =>
  root.issuers === null || (speech !== null && root.issuers.has(speech));

/** REG-M-9, REG-M-14: as many of the signers as the threshold speak for each of these. */
export function checkSpeak(signers: readonly Named[], threshold: bigint, wanted: Iterable<Speech>): void {
  for (const speech of wanted) {
    require(BigInt(signers.filter((root) => speaks(root, speech)).length) >= threshold, 316);
  }
}

/** What a statement gives that the one before it did not. */
function given(statement: Statement, before: Statement): Set<Speech> {
  const found = new Set<Speech>();
  for (const root of statement.roots) {
    const old = before.roots.find(({ key }) => equal(key.bytes, root.key.bytes));
    for (const speech of root.issuers ?? [null]) {
      if (old === undefined || !speaks(old, speech)) found.add(speech);
    }
  }
  const stamps = [statement, before].map(({ stamps }) => concat(...stamps.map(({ bytes }) => bytes))) as [Bytes, Bytes];
  if (statement.threshold < before.threshold || !equal(...stamps)) found.add(null);
  return found;
}

/** REG-M-5, REG-M-6, REG-M-14: the statements that are looked at. */
function walk(all: Statement[], root: Root): Statement[] {
  let statements = all;
  const { key, statement } = root;
  if (statement !== null) {
    const at = all.findIndex(({ digest }) => equal(digest, statement));
    require(at >= 0, 314);
    statements = all.slice(at);
  } else if (key !== null) {
    const [first] = all;
    if (first === undefined) return refuse(314);
    require(first.version === 1n && equal(first.chain, rootKeyId(key.bytes)), 314);
    require(signersOf(first.document, [{ key, issuers: null }]).length === 1, 308);
  }
  let last: Statement | null = null;
  for (const next of statements) {
    if (last !== null) {
      require(next.version === last.version + 1n && next.previous !== null && equal(next.previous, last.digest), 314);
      require(equal(next.chain, last.chain) && next.issued >= last.issued, 314);
      const signers = checkSignedBy(next.document, last);
      checkSignedBy(next.document, next);
      checkSpeak(signers, last.threshold, given(next, last));
    } else {
      checkSignedBy(next.document, next);
    }
    last = next;
  }
  return statements;
}

/** REG-M-1 … REG-M-6, and who signed the listing (REG-M-8). */
export function readBundle(file: Uint8Array, root: Root): Bundle {
  const [list, listing, stampItem] = fields.tuple(parse(file), 3) as [Item, Item, Item];
  const items = fields.array(list);
  require(items.length >= 1 && items.length <= MAX_STATEMENTS, 313);
  const stampItems = fields.array(stampItem);
  require(stampItems.length <= 1, 313);
  const parts = items.map((item) => fields.bytes(item));
  const listed = fields.bytes(listing);
  const stampParts = stampItems.map((item) => fields.bytes(item));
  const all = parts.map(readStatement);
  const document = readDocument(listed, LISTING);
  const stamps = stampParts.map(readStamp);
  const statements = walk(all, root);
  const newest = statements[statements.length - 1] ?? refuse(314);
  const signers = checkSignedBy(document, newest);
  return { statements, newest, signers, payload: document.payload, stamp: stamps[0] ?? null };
}

/** REG-M-7, REG-M-11: gives when the timestamp ends. */
export function checkBundleTime(bundle: Bundle, of: { version: bigint; digest: Uint8Array }, now: bigint): bigint | null {
  const { newest, stamp } = bundle;
  require(now < newest.expires, 310);
  require(newest.issued <= now + CLOCK_SKEW, 412);
  if (stamp === null) {
    require(newest.stamps.length === 0, 315);
    return null;
  }
  const key = newest.stamps.find((one) => equal(rootKeyId(one.bytes), stamp.envelope.kid)) ?? refuse(308);
  verifyOr308(key, toBeSigned(stamp.envelope), stamp.envelope.signature);
  require(equal(stamp.chain, newest.chain) && stamp.version === of.version && equal(stamp.digest, of.digest), 315);
  require(now < stamp.expires, 315);
  require(stamp.issued <= now + CLOCK_SKEW, 412);
  return stamp.expires;
}

/** REG-M-12. */
export function checkRootsSeen(statements: readonly Statement[], seen: { version: bigint; digest: Uint8Array }): void {
  const [first] = statements;
  if (first === undefined) return refuse(314);
  const same = statements.find(({ version }) => version === seen.version);
  if (same === undefined) require(first.version > seen.version, 314);
  else require(equal(same.digest, seen.digest), 314);
}
