// Session vectors (testvectors/session/README.md).

import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { gunzipSync } from "node:zlib";
import { hex, unhex } from "../bytes.js";
import { readEnvelope, CAPSULE } from "../envelope.js";
import { LIMITS } from "../limits.js";
import { readManifest } from "../manifest.js";
import { envelopeBytes, readPrologue } from "../prologue.js";
import { digestOf, originOf, readAgentState, readEvent } from "../session/event.js";
import { type Facts, plan } from "../session/ladder.js";
import { type Answer, confirm, observations } from "../session/observation.js";
import { kept, mayContinue, put, readCapsule, readRecord } from "../session/record.js";
import { context, replay } from "../session/replay.js";
import { readSealed } from "../session/sealed.js";
import { type Members, readCbor, readJson, toCbor, type Value } from "../session/value.js";
import { isWhole } from "../session/whole.js";
import { runOperations, type Vector } from "./operations.js";

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
  header: string;
  /** Sections of a sealed version, in hexadecimal. */
  history: string;
  log: string;
  /** Texts of a file, each so many times. */
  file: [text: string, times: number][];
  confirm?: Answer;
}

type Stated = Input & Facts & Answer;

const event = (value: Value) => {
  const read = readEvent(value);
  return { cbor: hex(toCbor(read.value)), digest: digestOf(read) };
};

const OPERATIONS = new Map<string, (input: Stated) => unknown>([
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
  ["confirm", (answer) => confirm(answer)],
  [
    "observations",
    ({ file, confirm: answer }) => {
      const text = file.map(([line, times]) => line.repeat(times)).join("");
      return { observations: inRows(observations(text, answer ?? null)) };
    },
  ],
  [
    "whole",
    ({ header }) => {
      const file = unhex(header);
      const { payload } = readEnvelope(envelopeBytes(file, readPrologue(file, LIMITS)), CAPSULE);
      return { whole: isWhole(readManifest(payload, LIMITS)) };
    },
  ],
  ["version", ({ history, log, names }) => readSealed(unhex(history), unhex(log), names)],
  ["continued", ({ capsule, now, expires }) => ({ continued: mayContinue(readCapsule(capsule), now, expires) })],
  [
    "kept",
    ({ versions, pinned, keep }) => {
      const read = versions.map(({ version, capsule }) => ({ version, capsule: capsule === undefined ? null : readCapsule(capsule) }));
      return kept(read, pinned, keep);
    },
  ],
]);

/** Values, each with how often it stands there in a row. */
function inRows(values: Members[]): [Members, number][] {
  const rows: [Members, number][] = [];
  for (const value of values) {
    const last = rows[rows.length - 1];
    if (last !== undefined && isDeepStrictEqual(last[0], value)) last[1] += 1;
    else rows.push([value, 1]);
  }
  return rows;
}

export function runSessions(path: string): { ran: number; failed: number } {
  const { vectors } = JSON.parse(gunzipSync(readFileSync(path)).toString("utf8")) as { vectors: Vector<Stated>[] };
  return runOperations(vectors, OPERATIONS);
}
