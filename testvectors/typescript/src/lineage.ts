// Capsules that continue one another (lineage-v1 §2).

import { type Bytes, concat, equal } from "./bytes.js";
import { banksOf } from "./consistent.js";
import { b3, prefixValue } from "./hashes.js";
import type { Manifest } from "./manifest.js";
import type { Memory } from "./memory.js";
import type { Opened } from "./open.js";
import { ofAncestor, plainSum, type Policy } from "./policy.js";
import { Refusal, refuse, require } from "./refusal.js";
import { type Bank, byPosition, identity } from "./stream.js";
import type { Trust } from "./trust.js";
import { readUntrusted, type Verified, verifyAgain, verifyHeader } from "./verify.js";

export function lineageDigest(capsule: Verified): Bytes {
  const { salt, commitment, rawMeasured } = capsule.manifest;
  return b3("kvcap v1 lineage", concat(capsule.ctx, salt, commitment, rawMeasured));
}

/** KVC-708 where an ancestor has expired or is revoked. */
function asAncestor<T>(verify: () => T): T {
  try {
    return verify();
  } catch (error) {
    if (error instanceof Refusal && (error.code === 402 || error.code === 409)) return refuse(708);
    throw error;
  }
}

/** The headers of a chain, tip first (§2.2); `files` are the ancestors, the tip's parent first. */
export function verifyChain(tip: Verified, files: readonly Uint8Array[], trust: Trust, policy: Policy, now: bigint): Verified[] {
  const chain = [tip];
  let plain = plainSum(tip.manifest);
  for (const file of files) {
    const child = chain[chain.length - 1] ?? tip;
    require(chain.length < policy.limits.chain, 706);
    const stated = ofAncestor(policy);
    const parent = asAncestor(() => verifyHeader(readUntrusted(file, stated), trust, stated, now));
    const named = child.manifest.parent ?? refuse(702);
    require(equal(named.lineage, lineageDigest(parent)), 702);
    const { start, end } = parent.manifest.positions;
    require(named.positions.start === start && named.positions.end === end, 703);
    require(parent.claims.iss === child.claims.iss, 707);
    checkSame(parent.manifest, child.manifest);
    checkBanks(parent.manifest, child.manifest);
    checkClaims(parent, child);
    require(!parent.claims.singleUse, 410);
    plain += plainSum(parent.manifest);
    require(policy.limits.budget === null || plain <= policy.limits.budget, 910);
    chain.push(parent);
  }
  return chain;
}

/** CAP-V-11, for every member. */
export function verifyChainAgain(chain: readonly Verified[], trust: Trust, policy: Policy, now: bigint, memory: Memory | null): void {
  chain.forEach((member, i) => {
    if (i === 0) verifyAgain(member, trust, policy, now);
    else asAncestor(() => verifyAgain(member, trust, policy, now));
  });
  const [tip] = chain;
  if (memory !== null && tip !== undefined) memory.check(tip.claims, tip.ctx);
}

const list = (entries: [string, unknown][]): string => JSON.stringify(entries);

/** LIN-L-6. */
function checkSame(parent: Manifest, child: Manifest): void {
  require(equal(parent.model.id, child.model.id), 704);
  const [a, b] = [parent.tokenizer, child.tokenizer];
  require(equal(a.vocabulary, b.vocabulary) && a.size === b.size && a.preTokenizer === b.preTokenizer, 704);
  require(list(a.specials) === list(b.specials), 704);
  const [before, after] = [a.chatTemplate ?? new Uint8Array(0), b.chatTemplate ?? new Uint8Array(0)];
  require(equal(before, after), 704);
  require(parent.ropes.length === child.ropes.length, 704);
  require(parent.ropes.every((rope, i) => equal(rope.raw, child.ropes[i]?.raw ?? new Uint8Array(0))), 704);
  const [old, now] = [parent.runtime, child.runtime];
  require(old.name === now.name && old.format === now.format && list(old.facts) === list(now.facts), 704);
  require(parent.layers === child.layers && parent.stateless.join() === child.stateless.join(), 704);
  const [named, then] = [child.prefix, parent.prefix];
  require((named.scheme === 0) === (then.scheme === 0), 704);
  if (named.scheme !== 0 && then.scheme !== 0) require(named.count >= then.count, 704);
}

/** LIN-L-5, LIN-L-4. */
function checkBanks(parent: Manifest, child: Manifest): void {
  const before = new Map(banksOf(parent).map((bank) => [identity(bank), bank]));
  const after = banksOf(child);
  require(before.size === after.length, 704);
  for (const bank of after) {
    const old = before.get(identity(bank)) ?? refuse(704);
    require(old.dtype.name === bank.dtype.name && old.hadamard === bank.hadamard && sameShape(old, bank), 704);
    require(!byPosition(bank) || byPosition(old), 704);
  }
}

function sameShape(a: Bank, b: Bank): boolean {
  if (a.shape.kind === "whole" || b.shape.kind === "whole") return a.shape.kind === b.shape.kind;
  return a.shape.heads === b.shape.heads && a.shape.dim === b.shape.dim;
}

/** LIN-L-7. */
function checkClaims(parent: Verified, child: Verified): void {
  const base = parent.manifest.baseImage;
  const [old, now] = [parent.claims, child.claims];
  require(old.sub === now.sub || (base && old.sub === null), 705);
  require(old.org === now.org || (base && old.org === null), 705);
  const granted = old.scope.split(" ");
  require(now.scope.split(" ").every((word) => granted.includes(word)), 705);
}

/** LIN-L-9, of an increment and its parent, both opened. */
export function checkContinues(parent: Opened, child: Opened): void {
  const { prefix } = parent.capsule.manifest;
  if (prefix.scheme === 0 || parent.prefix === null) return;
  const tokens = child.tokens ?? refuse(704);
  require(equal(prefixValue(tokens.slice(0, Number(prefix.count))), parent.prefix), 704);
}
