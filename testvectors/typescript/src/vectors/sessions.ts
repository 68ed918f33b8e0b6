// Session vectors (testvectors/session/README.md), of the operations that this reader has.

import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { gunzipSync } from "node:zlib";
import { hex, unhex } from "../bytes.js";
import { Refusal, refuse } from "../refusal.js";
import { digestOf, originOf, readAgentState, readEvent } from "../session/event.js";
import { type Facts, plan } from "../session/ladder.js";
import { kept, mayContinue, put, readCapsule, readRecord } from "../session/record.js";
import { context, replay } from "../session/replay.js";
import { readCbor, readJson, toCbor, type Value } from "../session/value.js";

interface Input {
  line: string;
  cbor: string;
  json: string;
  there: Value;
  put: Value;
  names: { tenant?: string; subject?: string; session: string };
  record: Value;
  events: Value[];
  seen?: number;
  most: number;
  capsule: Value;
  now: number;
  expires: number;
  versions: { version: number; capsule?: Value }[];
  pinned: number[];
  keep: number;
}

interface Vector {
  name: string;
  operation: string;
  input: Input & Facts;
  code: number;
  output: unknown;
}

const event = (value: Value) => {
  const read = readEvent(value);
  return { cbor: hex(toCbor(read.value)), digest: digestOf(read) };
};

const OPERATIONS = new Map<string, (input: Input & Facts) => unknown>([
  ["event", ({ line }) => event(readJson(line))],
  ["event-cbor", ({ cbor }) => event(readCbor(unhex(cbor)))],
  [
    "agent-state",
    ({ json }) => {
      const state = readAgentState(readJson(json));
      return { cbor: hex(toCbor(state)), empty: Object.keys(state).length === 0 };
    },
  ],
  ["record", ({ json }) => ({ cbor: hex(toCbor(readRecord(readJson(json)).value)) })],
  [
    "put",
    (input) => {
      put(readRecord(input.there), readRecord(input.put));
      return {};
    },
  ],
  ["origin", ({ names }) => ({ head: originOf(names) })],
  ["replay", ({ record, events }) => replay(readRecord(record), events.map(readEvent))],
  ["context", ({ record, events, seen, most }) => context(readRecord(record), events.map(readEvent), seen ?? null, most)],
  ["plan", (facts) => plan(facts)],
  ["continued", ({ capsule, now, expires }) => ({ continued: mayContinue(readCapsule(capsule), now, expires) })],
  [
    "kept",
    ({ versions, pinned, keep }) => {
      const read = versions.map(({ version, capsule }) => ({ version, capsule: capsule === undefined ? null : readCapsule(capsule) }));
      return kept(read, pinned, keep);
    },
  ],
]);

/** The runtime's count, observations and what can be cut: not implemented here. */
const LEFT_OUT = ["confirm", "observations", "whole"];

export function runSessions(path: string): { ran: number; failed: number } {
  const { vectors } = JSON.parse(gunzipSync(readFileSync(path)).toString("utf8")) as { vectors: Vector[] };
  const ours = vectors.filter(({ operation }) => !LEFT_OUT.includes(operation));
  let failed = 0;
  for (const vector of ours) {
    const problem = check(vector);
    if (problem === null) continue;
    failed += 1;
    console.log(`${vector.name} (${vector.operation}): ${problem}`);
  }
  console.log(`sessions: ${vectors.length - ours.length} skipped: ${LEFT_OUT.join(", ")} are not implemented`);
  return { ran: ours.length, failed };
}

function check({ operation, input, code, output }: Vector): string | null {
  const run = OPERATIONS.get(operation) ?? refuse(944, operation);
  try {
    const made = plain(run(input));
    if (code !== 0) return `accepted instead of KVC-${code}`;
    return isDeepStrictEqual(made, plain(output)) ? null : `${JSON.stringify(made)} instead of ${JSON.stringify(output)}`;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return error.code === code ? null : `${error.message} instead of KVC-${code}`;
  }
}

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value)) as unknown;
