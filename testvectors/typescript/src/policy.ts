// What a verifier states, and how it is compared with a capsule (capsule-v1 §3.2, steps 7 to 10).

import { equal } from "./bytes.js";
import { banksOf } from "./consistent.js";
import type { Claims } from "./envelope.js";
import { kb3, prefixValue } from "./hashes.js";
import type { Limits } from "./limits.js";
import type { Manifest, Range, Rope } from "./manifest.js";
import { require } from "./refusal.js";
import { ROLE } from "./stream.js";
import type { Trust, TrustedKey } from "./trust.js";

export interface ExpectedModel {
  id: Uint8Array;
  vocabulary: Uint8Array;
  size: number;
  preTokenizer: string;
  specials: [string, number][];
  chatTemplate: Uint8Array | null;
  ropes: Pick<Rope, "layers" | "pairing" | "dims" | "theta" | "scaling">[];
}

export interface Expected {
  capsule: Uint8Array | null;
  model: ExpectedModel | null;
  format: { name: string; facts: [string, string][] } | null;
  dtypes: { keys: string; values: string } | null;
  runtime: { name: string; version: string | null } | null;
  positions: Range | null;
  prompt: { tokens: number[]; key: Uint8Array | null } | null;
  banks: { role: number; layer: number }[];
  session: { id: string; version: bigint | null; cursor: bigint | null } | null;
}

export interface Policy {
  audiences: string[];
  subject: string | null;
  tenant: string | null;
  scope: string;
  maxLifetime: bigint;
  skew: bigint;
  suites: number[];
  limits: Limits;
  expected: Expected;
}

/** For an ancestor: what is stated of the tip alone is left out (lineage-v1 §2.2 step 2). */
export function ofAncestor(policy: Policy): Policy {
  const expected = { ...policy.expected, capsule: null, positions: null, prompt: null, banks: [], session: null };
  return { ...policy, expected };
}

/** Step 7: the key's window, purpose, suites and issuer; the caller's suites; revocation. */
export function checkKey(key: TrustedKey, claims: Claims, suite: number, trust: Trust, policy: Policy, now: bigint): void {
  require(claims.iat >= key.notBefore, 303);
  require(key.signUntil === null || claims.iat < key.signUntil, 303);
  require(key.verifyUntil === null || now < key.verifyUntil, 303);
  require(key.forCapsules && key.suites.includes(suite), 302);
  require(key.issuer === claims.iss, 312);
  require(policy.suites.includes(suite), 502);
  require(!trust.isRevoked(claims.cti), 409);
}

const LONGEST_LIFE = 30n * 86_400n;
const MOST_SKEW = 60n;

/** Step 8: CAP-V-1 … CAP-V-4. */
export function checkTimes(claims: Claims, policy: Policy, now: bigint): void {
  const skew = policy.skew < MOST_SKEW ? policy.skew : MOST_SKEW;
  const life = policy.maxLifetime < LONGEST_LIFE ? policy.maxLifetime : LONGEST_LIFE;
  require(claims.nbf < claims.exp && claims.iat < claims.exp, 401);
  require(now < claims.exp, 402);
  require(claims.nbf <= now + skew && claims.iat <= now + skew, 403);
  require(claims.exp - claims.iat <= life && claims.exp <= claims.cap, 404);
}

/** Step 9: CAP-V-5 … CAP-V-8. */
export function checkFor(claims: Claims, policy: Policy): void {
  require(policy.audiences.includes(claims.aud), 405);
  require(claims.sub === null || claims.sub === policy.subject, 406);
  require(claims.org === null || claims.org === policy.tenant, 407);
  const wanted = policy.expected.session;
  if (wanted !== null) {
    const found = claims.session;
    require(found !== null && found.id === wanted.id, 413);
    require(wanted.version === null || found.version === wanted.version, 413);
    require(wanted.cursor === null || found.cursor === wanted.cursor, 413);
  }
  require(claims.scope.split(" ").includes(policy.scope), 408);
}

/** Step 10: CAP-V-9 in the order of its table, then CAP-V-10. */
export function checkBinding(claims: Claims, manifest: Manifest, policy: Policy): void {
  const { capsule, model, format, dtypes, runtime, positions, prompt, banks } = policy.expected;
  require(capsule === null || equal(capsule, claims.cti), 507);
  if (model !== null) checkModel(model, manifest);
  if (format !== null) {
    require(format.name === manifest.runtime.format, 604);
    const facts = new Map(manifest.runtime.facts);
    require(format.facts.every(([name, value]) => (facts.get(name) ?? "") === value), 604);
  }
  const all = banksOf(manifest);
  if (dtypes !== null) {
    const fits = (role: number, name: string): boolean => all.every((b) => b.role !== role || b.dtype.name === name);
    require(fits(ROLE.key, dtypes.keys) && fits(ROLE.value, dtypes.values), 604);
  }
  if (runtime !== null) {
    const { name, version } = manifest.runtime;
    require(runtime.name === name, 608);
    require(runtime.version === null || version === "" || runtime.version === version, 608);
  }
  if (positions !== null) {
    require(positions.start === manifest.positions.start && positions.end === manifest.positions.end, 606);
  }
  if (prompt !== null) checkPrompt(prompt, manifest);
  require(banks.every(({ role, layer }) => all.some((b) => b.role === role && b.layer === layer)), 607);
  const budget = policy.limits.budget;
  require(budget === null || plainSum(manifest) <= budget, 910);
}

export function plainSum(manifest: Manifest): bigint {
  return manifest.streams.reduce((sum, stream) => sum + stream.plainLen, 0n);
}

function checkModel(model: ExpectedModel, manifest: Manifest): void {
  require(equal(model.id, manifest.model.id), 601);
  const found = manifest.tokenizer;
  const template = model.chatTemplate;
  const same =
    equal(model.vocabulary, found.vocabulary) &&
    model.size === found.size &&
    model.preTokenizer === found.preTokenizer &&
    JSON.stringify(model.specials) === JSON.stringify(found.specials) &&
    (template === null ? found.chatTemplate === null : found.chatTemplate !== null && equal(template, found.chatTemplate));
  require(same, 602);
  const turned = banksOf(manifest).filter((bank) => bank.role === ROLE.key || bank.role === ROLE.ropeKey);
  for (const layer of new Set(turned.map((bank) => bank.layer))) {
    const wanted = model.ropes.find((rope) => rope.layers.includes(layer));
    const rope = manifest.ropes.find((entry) => entry.layers.includes(layer));
    const alike =
      wanted === undefined || rope === undefined
        ? wanted === rope
        : wanted.pairing === rope.pairing &&
          wanted.dims === rope.dims &&
          equal(wanted.theta, rope.theta) &&
          equal(wanted.scaling, rope.scaling);
    require(alike, 603);
  }
}

function checkPrompt(prompt: { tokens: number[]; key: Uint8Array | null }, manifest: Manifest): void {
  const { prefix } = manifest;
  require(prefix.scheme !== 0, 605);
  const value = prefixValue(prompt.tokens);
  if (prefix.scheme === 2) require(equal(value, prefix.commitment), 605);
  else require(prompt.key !== null && equal(kb3(prompt.key, value), prefix.commitment), 605);
}
