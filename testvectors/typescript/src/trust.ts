// Whom a verifier trusts: keys one by one, or a signed registry (capsule-v1 §8, registry-v1).

import { compare, equal, hex } from "./bytes.js";
import { type Item, parse } from "./cbor.js";
import { readEnvelope, REGISTRY, toBeSigned } from "./envelope.js";
import { Fields, of } from "./fields.js";
import { registryDigest, rootKeyId, signKeyId } from "./hashes.js";
import { MAX_U64 } from "./limits.js";
import { refuse, require } from "./refusal.js";
import { type Bundle, checkBundleTime, checkSpeak, readBundle, type Root, type Statement, verifyOr308 } from "./roots.js";
import { loadPublicKey, type PublicKey } from "./signature.js";

const CLOCK_SKEW = 60n;

export interface TrustedKey {
  key: PublicKey;
  issuer: string;
  forCapsules: boolean;
  suites: number[];
  notBefore: bigint;
  signUntil: bigint | null;
  verifyUntil: bigint | null;
  compromised: boolean;
}

export interface Registry {
  version: bigint;
  issued: bigint;
  expires: bigint;
  keys: TrustedKey[];
  revoked: Uint8Array[];
  before: Uint8Array | null;
  digest: Uint8Array;
  /** Statements about roots that were looked at, the newest last; none under one root. */
  statements: Statement[];
  bundle: Bundle | null;
}

/** Keys and registries as one set (REG-G-11). */
export class Trust {
  private readonly keys = new Map<string, TrustedKey>();
  private readonly revoked = new Set<string>();
  private expires: bigint | null = null;
  private freshUntil: bigint | null = null;

  /** CAP-K-1: two keys of one id are refused. */
  add(key: TrustedKey): void {
    const id = hex(signKeyId(key.key.bytes));
    require(!this.keys.has(id), 311);
    this.keys.set(id, key);
  }

  /** REG-G-6, REG-M-7, REG-M-11: a registry that is current. */
  addRegistry(registry: Registry, now: bigint): void {
    if (registry.bundle !== null) this.freshUntil = checkBundleTime(registry.bundle, registry, now);
    require(now < registry.expires, 310);
    require(registry.issued <= now + CLOCK_SKEW, 412);
    registry.keys.forEach((key) => this.add(key));
    registry.revoked.forEach((id) => this.revoked.add(hex(id)));
    const newest = registry.statements[registry.statements.length - 1];
    const end = newest !== undefined && newest.expires < registry.expires ? newest.expires : registry.expires;
    if (this.expires === null || end < this.expires) this.expires = end;
  }

  /** Step 4 of capsule-v1 §3.2. */
  find(kid: Uint8Array, now: bigint): TrustedKey {
    require(this.expires === null || now < this.expires, 310);
    require(this.freshUntil === null || now < this.freshUntil, 315);
    const key = this.keys.get(hex(kid)) ?? refuse(301);
    require(!key.compromised, 304);
    return key;
  }

  isRevoked(capsule: Uint8Array): boolean {
    return this.revoked.has(hex(capsule));
  }
}

/** REG-G-7: versions in the order in which they are given follow what was seen. */
export function checkSuccession(versions: readonly Registry[], seen: { version: bigint; digest: Uint8Array } | null): void {
  let last = seen;
  for (const next of versions) {
    if (last !== null) {
      const again = next.version === last.version && equal(next.digest, last.digest);
      const follows = next.version === last.version + 1n && next.before !== null && equal(next.before, last.digest);
      require(again || follows, 309);
    }
    last = next;
  }
}

const fields: Fields = new Fields(313);
const MAX_FILE = 4 << 20;

/** REG-G-1 … REG-G-5, REG-G-13, REG-M-1 … REG-M-9, REG-M-14. */
export function readRegistry(file: Uint8Array, root: Root): Registry {
  require(file.length <= MAX_FILE, 313);
  const registry = file[0] === 0x83 ? severalRoots(file, root) : oneRoot(file, root);
  if (root.issuers !== null) {
    const { issuers } = root;
    registry.keys.forEach((key) => require(issuers.includes(key.issuer), 316));
  }
  return registry;
}

function oneRoot(file: Uint8Array, root: Root): Registry {
  require(file[0] === 0xd2, 308);
  const envelope = readEnvelope(file, REGISTRY);
  if (root.key === null) return refuse(308);
  require(equal(envelope.kid, rootKeyId(root.key.bytes)), 308);
  verifyOr308(root.key, toBeSigned(envelope), envelope.signature);
  return readListing(envelope.payload, [root.key], registryDigest(file));
}

function severalRoots(file: Uint8Array, root: Root): Registry {
  const bundle = readBundle(file, root);
  const { newest, signers, payload } = bundle;
  const roots = [...newest.roots.map(({ key }) => key), ...newest.stamps];
  const registry = readListing(payload, roots, registryDigest(payload));
  const issuers = registry.keys.map(({ issuer }) => issuer);
  checkSpeak(signers, newest.threshold, issuers);
  return { ...registry, statements: bundle.statements, bundle };
}

function readListing(payload: Uint8Array, roots: readonly PublicKey[], digest: Uint8Array): Registry {
  const map = fields.map(parse(payload), [1, 2, 3, 4, 5, 6], [7]);
  fields.oneOf(of(map, 1), 1);
  const version = fields.uint(of(map, 2));
  const before = map.get(7);
  require(version !== 0n && (before !== undefined) === (version !== 1n), 313);
  const issued = fields.uint(of(map, 3));
  const expires = fields.uint(of(map, 4));
  require(issued < expires, 313);
  const keys = fields.array(of(map, 5));
  const revoked = fields.array(of(map, 6));
  require(keys.length <= 1024 && revoked.length <= 65536, 313);
  return {
    version,
    issued,
    expires,
    keys: inOrder(keys.map((entry) => readKey(entry, roots))),
    revoked: ascendingIds(revoked.map(readRevoked)),
    before: before === undefined ? null : fields.bytes(before, 32),
    digest,
    statements: [],
    bundle: null,
  };
}

function readKey(item: Item, roots: readonly PublicKey[]): TrustedKey {
  const map = fields.map(item, [1, 2, 3, 4, 5, 8], [6, 7]);
  const until = (label: number): bigint | null => {
    const found = map.get(label);
    if (found === undefined) return null;
    const time = fields.uint(found);
    require(time !== MAX_U64, 313);
    return time;
  };
  const bytes = fields.bytes(of(map, 1), 32);
  const purpose = fields.oneOf(of(map, 2), 1, 2);
  const issuer = fields.text(of(map, 3), 1);
  const suites = fields.array(of(map, 4)).map((suite) => Number(fields.uint(suite)));
  require(suites.length > 0 && suites.every((suite, i) => i === 0 || (suites[i - 1] ?? 0) < suite), 313);
  const status = fields.oneOf(of(map, 8), 0, 1, 2);
  const signUntil = until(6);
  require(status !== 1 || signUntil !== null, 313);
  const key: TrustedKey = {
    key: loadPublicKey(bytes),
    issuer,
    forCapsules: purpose === 1,
    suites,
    notBefore: fields.uint(of(map, 5)),
    signUntil,
    verifyUntil: until(7),
    compromised: status === 2,
  };
  require(!roots.some((root) => equal(bytes, root.bytes)), 302);
  return key;
}

function inOrder(keys: TrustedKey[]): TrustedKey[] {
  let before: Uint8Array | null = null;
  for (const { key } of keys) {
    const id = signKeyId(key.bytes);
    if (before !== null) {
      const order = compare(before, id);
      require(order !== 0, 311);
      require(order < 0, 313);
    }
    before = id;
  }
  return keys;
}

function readRevoked(item: Item): Uint8Array {
  const [id, when] = fields.tuple(item, 2) as [Item, Item];
  fields.uint(when);
  return fields.bytes(id, 16);
}

function ascendingIds(ids: Uint8Array[]): Uint8Array[] {
  ids.forEach((id, i) => {
    const before = ids[i - 1];
    require(before === undefined || compare(before, id) < 0, 313);
  });
  return ids;
}
