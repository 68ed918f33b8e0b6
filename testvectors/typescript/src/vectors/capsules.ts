// Every capsule vector, by both ways of a reader: the body checked before it is opened, and opened at once.
// Code, released bytes and digests are compared.

import { createHash } from "node:crypto";
import { concat, unhex } from "../bytes.js";
import { checkContinues, verifyChain, verifyChainAgain } from "../lineage.js";
import type { Memory } from "../memory.js";
import { Opened } from "../open.js";
import { ofAncestor } from "../policy.js";
import { publicCode, Refusal, refuse, require } from "../refusal.js";
import { restore } from "../restore.js";
import type { Trust } from "../trust.js";
import { readUntrusted, type Verified, verifyBody, verifyHeader } from "../verify.js";
import { type Context, readContent, readIndex, sha256, type Vector } from "./index.js";
import { memoryOf, policyOf, trustOf } from "./stated.js";

/** All bytes given out so far. */
class Released {
  private readonly hash = createHash("sha256");
  private length = 0;

  add(bytes: Uint8Array): void {
    this.hash.update(bytes);
    this.length += bytes.length;
  }

  digest(): { len: number; sha256: string } {
    return { len: this.length, sha256: this.hash.copy().digest("hex") };
  }
}

interface StreamResult {
  len: number;
  sha256: string;
  bank: string | null;
}

const WAYS = ["body first", "opened at once"] as const;
type Way = (typeof WAYS)[number];

/** Prints each vector that disagrees, and gives how many there were and how many of them do. */
export async function runCapsules(folder: string, only?: string): Promise<{ ran: number; failed: number }> {
  const index = readIndex(folder);
  const vectors = index.vectors.filter((vector) => only === undefined || vector.name === only);
  let failed = 0;
  for (const vector of vectors) {
    const context = { ...index.default_context, ...vector.context };
    for (const way of WAYS) {
      const problem = await check(folder, vector, context, way);
      if (problem === null) continue;
      failed += 1;
      console.log(`${vector.name}, ${way}: ${problem}`);
      break;
    }
  }
  return { ran: vectors.length, failed };
}

async function check(folder: string, vector: Vector, context: Context, way: Way): Promise<string | null> {
  const released = new Released();
  let code = 0;
  let streams: StreamResult[] = [];
  const file = readContent(folder, vector.file);
  if (sha256(file) !== vector.sha256) return "the file has another digest";
  try {
    streams = await read(folder, file, context, way, released);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    code = error.code;
  }
  if (code !== vector.code) return `KVC-${code} instead of KVC-${vector.code} (${vector.stage})`;
  if (publicCode(code) !== vector.public) return `a remote caller would be told KVC-${publicCode(code)}`;
  const nothing = vector.stage === "body" && way === "body first";
  const { len, sha256: digest } = nothing ? new Released().digest() : vector.released;
  const given = released.digest();
  if (given.len !== len || given.sha256 !== digest) return `released ${given.len} bytes, ${given.sha256}, instead of ${len}`;
  const wanted = vector.streams?.map(({ len, sha256, bank }) => ({ len, sha256, bank }));
  if (wanted !== undefined && JSON.stringify(streams) !== JSON.stringify(wanted)) return "a stream has another digest";
  return null;
}

/** One reader's whole way: trust, header, chain, body, and where there is a key, opening, reading and decoding. */
async function read(
  folder: string,
  file: Uint8Array,
  context: Context,
  way: Way,
  released: Released,
): Promise<StreamResult[]> {
  const content = (name: string): Uint8Array => readContent(folder, name);
  const memory = memoryOf(context);
  const now = memory === null ? BigInt(context.now) : memory.time(BigInt(context.now));
  const trust = trustOf(context, now, content);
  for (const name of context.memory?.opened ?? []) {
    const { chain, time } = verifyAll(content(name), context, way, trust, memory, now, content);
    await openAll(chain, context, memory, time);
  }
  const { chain, time } = verifyAll(file, context, way, trust, memory, now, content);
  if (context.wrapping_key === null) return [];
  const members = await openAll(chain, context, memory, time);
  return context.reads.length > 0 ? readRanges(members, context, released) : readWhole(members, released);
}

interface VerifiedChain {
  /** Tip first. */
  chain: Verified[];
  time: bigint;
}

function verifyAll(
  file: Uint8Array,
  context: Context,
  way: Way,
  trust: Trust,
  memory: Memory | null,
  now: bigint,
  content: (name: string) => Uint8Array,
): VerifiedChain {
  const policy = policyOf(context);
  const tip = verifyHeader(readUntrusted(file, policy), trust, policy, now);
  memory?.headerHasPassed();
  memory?.check(tip.claims, tip.ctx);
  const chain = verifyChain(tip, context.parents.map(content), trust, policy, now);
  const root = chain[chain.length - 1] ?? tip;
  require(root.manifest.parent === null, 701);
  // a capsule for one use is opened only after its body (REG-U-4)
  if (way === "body first" || context.wrapping_key === null || tip.claims.singleUse) chain.forEach(verifyBody);
  if (context.later === null) return { chain, time: now };
  const time = memory === null ? BigInt(context.later) : memory.time(BigInt(context.later));
  verifyChainAgain(chain, trust, ofAncestor(policy), time, memory);
  return { chain, time };
}

/** Steps 22 to 26, from the root to the tip. */
async function openAll(chain: Verified[], context: Context, memory: Memory | null, now: bigint): Promise<Opened[]> {
  const key = { type: context.wrapping_type, secret: unhex(context.wrapping_key ?? refuse(809)) };
  const [tip] = chain;
  if (tip === undefined) return [];
  require(!tip.claims.singleUse || memory !== null, 410);
  const members: Opened[] = [];
  for (const member of [...chain].reverse()) {
    const opened = await Opened.open(member, key);
    const parent = members[members.length - 1];
    if (parent !== undefined) checkContinues(parent, opened);
    members.push(opened);
  }
  require((memory?.time(now) ?? now) < tip.claims.exp, 402);
  memory?.remember(tip.claims, tip.ctx);
  return members;
}

async function readRanges(members: Opened[], context: Context, released: Released): Promise<StreamResult[]> {
  const tip = members[members.length - 1] ?? refuse(810);
  for (const { stream, start, end } of context.reads) {
    const range = { stream, start: BigInt(start), end: BigInt(end) };
    for await (const part of tip.read(range)) released.add(part);
  }
  return [];
}

async function readWhole(members: Opened[], released: Released): Promise<StreamResult[]> {
  const encoded: Uint8Array[][] = [];
  for (const member of members) {
    const streams: Uint8Array[] = [];
    for (const place of member.capsule.places) {
      const parts: Uint8Array[] = [];
      for await (const part of member.read({ stream: place.index, start: 0n, end: BigInt(place.length) })) {
        released.add(part);
        parts.push(part);
      }
      streams.push(concat(...parts));
    }
    encoded.push(streams);
  }
  return members.flatMap((member, m) => {
    const streams = encoded[m] ?? [];
    const banks = restore(member.capsule.manifest, streams);
    return streams.map((bytes) => {
      const bank = banks.next().value ?? null;
      return { len: bytes.length, sha256: sha256(bytes), bank: bank === null ? null : sha256(bank) };
    });
  });
}
