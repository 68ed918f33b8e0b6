// What a vector's context states, in the words of the reader.

import { concat, unhex } from "../bytes.js";
import { LIMITS, type Limits } from "../limits.js";
import { Memory } from "../memory.js";
import type { Expected, ExpectedModel, Policy } from "../policy.js";
import { loadPublicKey } from "../signature.js";
import { checkRootsSeen } from "../roots.js";
import { checkSuccession, readRegistry, Trust } from "../trust.js";
import type { Context, Scaling, TrustEntry, Uint } from "./index.js";

const maybe = <A, B>(value: A | null, read: (value: A) => B): B | null => (value === null ? null : read(value));
const uint = (value: Uint): bigint => BigInt(value);

export function policyOf(context: Context): Policy {
  return {
    audiences: context.audiences,
    subject: context.subject,
    tenant: context.organisation,
    scope: context.scope,
    maxLifetime: uint(context.max_lifetime),
    skew: uint(context.skew),
    suites: context.suites,
    limits: limitsOf(context.limits),
    expected: expectedOf(context),
  };
}

function limitsOf(lowered: Context["limits"]): Limits {
  const { tables, budget, ...counts } = lowered;
  const numbers = Object.fromEntries(Object.entries(counts).map(([name, limit]) => [name, Number(limit)]));
  return {
    ...LIMITS,
    ...numbers,
    ...(tables === undefined ? {} : { tables: uint(tables) }),
    ...(budget === undefined ? {} : { budget: uint(budget) }),
  };
}

function expectedOf({ expected }: Context): Expected {
  return {
    capsule: maybe(expected.capsule, unhex),
    model: maybe(expected.model, modelOf),
    format: maybe(expected.layout, ([name, facts]) => ({ name, facts })),
    dtypes: maybe(expected.dtypes, ([keys, values]) => ({ keys, values })),
    runtime: maybe(expected.runtime, ([name, version]) => ({ name, version })),
    positions: maybe(expected.positions, ([start, end]) => ({ start: uint(start), end: uint(end) })),
    prompt: maybe(expected.prefix, ({ tokens, key }) => ({ tokens, key: maybe(key, unhex) })),
    banks: expected.banks.map(([role, layer]) => ({ role, layer })),
    session: maybe(expected.session, ([id, version, cursor]) => ({ id, version: maybe(version, uint), cursor: maybe(cursor, uint) })),
  };
}

function modelOf(model: NonNullable<Context["expected"]["model"]>): ExpectedModel {
  return {
    id: unhex(model.id),
    vocabulary: unhex(model.vocab),
    size: model.vocab_size,
    preTokenizer: model.pre_tokenizer,
    specials: model.specials,
    chatTemplate: maybe(model.chat_template, unhex),
    ropes: model.rope.map((rope) => ({
      layers: rope.layers,
      pairing: rope.pairing,
      dims: rope.rotary_dims,
      theta: unhex(rope.theta),
      scaling: encode(rope.scaling),
    })),
  };
}

/** A scaling as the manifest encodes it; a text is the bytes of a binary64. */
function encode(value: Scaling | Scaling[number]): Uint8Array {
  if (typeof value === "boolean") return new Uint8Array([value ? 0xf5 : 0xf4]);
  if (typeof value === "string") return concat(new Uint8Array([0x40 | (value.length / 2)]), unhex(value));
  if (typeof value === "number") return head(0, value);
  return concat(head(4, value.length), ...value.map(encode));
}

function head(major: number, n: number): Uint8Array {
  if (n < 24) return new Uint8Array([(major << 5) | n]);
  if (n < 1 << 8) return new Uint8Array([(major << 5) | 24, n]);
  if (n < 1 << 16) return new Uint8Array([(major << 5) | 25, n >> 8, n & 255]);
  return new Uint8Array([(major << 5) | 26, n >>> 24, (n >> 16) & 255, (n >> 8) & 255, n & 255]);
}

export function memoryOf(context: Context): Memory | null {
  return maybe(context.memory, ({ latest }) => new Memory(maybe(latest, uint)));
}

/** Loads keys one by one. */
export function trustOfKeys(entries: readonly TrustEntry[]): Trust {
  const trust = new Trust();
  for (const entry of entries) {
    trust.add({
      key: loadPublicKey(unhex(entry.key)),
      issuer: entry.issuer,
      forCapsules: entry.for_capsules,
      suites: entry.suites,
      notBefore: uint(entry.not_before),
      signUntil: maybe(entry.sign_until, uint),
      verifyUntil: maybe(entry.verify_until, uint),
      compromised: entry.compromised,
    });
  }
  return trust;
}

/** Loads whom the context trusts, in the order of REG-G-6. */
export function trustOf(context: Context, now: bigint, file: (name: string) => Uint8Array): Trust {
  const trust = trustOfKeys(context.trust);
  if (context.registry !== null) {
    const { root, files, seen, statement, issuers, seen_roots: seenRoots } = context.registry;
    const given = {
      key: statement === undefined ? loadPublicKey(unhex(root)) : null,
      statement: statement === undefined ? null : unhex(statement),
      issuers: issuers ?? null,
    };
    const versions = files.map((name) => readRegistry(file(name), given));
    const newest = versions[versions.length - 1];
    if (newest !== undefined) trust.addRegistry(newest, now);
    if (seenRoots !== undefined) {
      const [version, digest] = seenRoots;
      versions.forEach((one) => checkRootsSeen(one.statements, { version: uint(version), digest: unhex(digest) }));
    }
    checkSuccession(versions, maybe(seen, ([version, digest]) => ({ version: uint(version), digest: unhex(digest) })));
  }
  return trust;
}
