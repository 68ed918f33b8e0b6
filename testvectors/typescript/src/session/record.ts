// The record of a checkpoint (session-v1 §4.1), and which versions are kept (§8).

import { text } from "../bytes.js";
import { refuse, require } from "../refusal.js";
import { type Event, isMessage, readAgentState, readEvent } from "./event.js";
import { countOf, digits, exactly, flagOf, listOf, nameOf, textOf } from "./members.js";
import { type Members, toCbor, toJson, type Value } from "./value.js";

const CAUSES = ["asked", "turns", "tool", "milestone", "idle", "expiry", "exit", "signal", "revert", "branch"];
const REQUIRED = [
  "form", "session", "version", "at", "cause", "replay_cursor", "head", "turns", "messages", "summary", "summary_cursor", "recent",
  "agent_state",
];
const MAX_RECORD = 16 << 20;
const MAX_SUMMARY = 256 << 10;

export interface SavedCapsule {
  id: string;
  expires: number;
  ancestors: string[];
  version: number;
  cursor: number;
  elsewhere: boolean;
}

export interface Record {
  version: number;
  cursor: number;
  head: string;
  turns: number;
  messages: number;
  summary: string;
  summaryCursor: number;
  recent: Event[];
  agentState: Members;
  capsule: SavedCapsule | null;
  value: Members;
}

export function readRecord(value: Value): Record {
  const found = exactly(value, REQUIRED, ["tenant", "subject", "parent_version", "branch_of", "capsule"]);
  require(found["form"] === 1, 950);
  for (const name of ["tenant", "subject"]) if (found[name] !== undefined) nameOf(found[name]);
  nameOf(found["session"]);
  countOf(found["at"]);
  require(CAUSES.includes(textOf(found["cause"])), 950);
  if (found["branch_of"] !== undefined) {
    const branch = exactly(found["branch_of"], ["session", "version"]);
    nameOf(branch["session"]);
    countOf(branch["version"], 1);
  }
  const summary = textOf(found["summary"]);
  require(text(summary).length <= MAX_SUMMARY, 951);
  const record: Record = {
    version: countOf(found["version"], 1),
    cursor: countOf(found["replay_cursor"]),
    head: digits(found["head"]),
    turns: countOf(found["turns"]),
    messages: countOf(found["messages"]),
    summary,
    summaryCursor: countOf(found["summary_cursor"]),
    recent: listOf(found["recent"], readEvent),
    agentState: readAgentState(found["agent_state"] ?? refuse(950)),
    capsule: found["capsule"] === undefined ? null : readCapsule(found["capsule"]),
    value: found,
  };
  checkRecord(record, found["parent_version"]);
  require(toCbor(found).length <= MAX_RECORD, 951);
  return record;
}

/** SES-C-1. */
function checkRecord(record: Record, parent: Value | undefined): void {
  if (parent !== undefined) require(countOf(parent, 1) < record.version, 950);
  require(record.summaryCursor <= record.cursor && record.messages >= record.turns, 950);
  let last = record.summaryCursor;
  for (const event of record.recent) {
    require(isMessage(event) && event.seq > last && event.seq <= record.cursor, 950);
    last = event.seq;
  }
  const { capsule } = record;
  if (capsule === null) return;
  require(capsule.elsewhere || capsule.version <= record.version, 950);
  require(capsule.cursor <= record.cursor, 950);
}

export function readCapsule(value: Value): SavedCapsule {
  const names = ["id", "lineage", "version", "cursor", "positions", "bytes", "expires", "model", "ancestors", "controller"];
  const found = exactly(value, names, ["session"]);
  digits(found["lineage"]);
  digits(found["model"]);
  countOf(found["positions"]);
  countOf(found["bytes"]);
  flagOf(found["controller"]);
  if (found["session"] !== undefined) nameOf(found["session"]);
  return {
    id: digits(found["id"], 32),
    expires: countOf(found["expires"]),
    ancestors: listOf(found["ancestors"], (id) => digits(id, 32)),
    version: countOf(found["version"]),
    cursor: countOf(found["cursor"]),
    elsewhere: found["session"] !== undefined,
  };
}

/** SES-C-4. */
export function put(there: Record, next: Record): void {
  const again = next.version === there.version && toJson(next.value) === toJson(there.value);
  require(again || next.version === there.version + 1, 954);
}

/** SES-S-3: whether a new state, saved now, may continue this one by time and length of the chain. */
export function mayContinue(capsule: SavedCapsule, now: number, expires: number): boolean {
  return 2 * (capsule.expires - now) >= expires - now && capsule.ancestors.length + 2 <= 16;
}

export interface Kept {
  versions: number[];
  capsules: string[];
  removable_versions: number[];
  removable_capsules: string[];
}

/** SES-S-4. */
export function kept(versions: { version: number; capsule: SavedCapsule | null }[], pinned: number[], keep: number): Kept {
  const newest = [...versions].sort((a, b) => b.version - a.version);
  const withCapsule = newest.find(({ capsule }) => capsule !== null);
  const stays = newest.filter((entry, i) => i < Math.max(keep, 1) || entry === withCapsule || pinned.includes(entry.version));
  const named = (entries: typeof newest): string[] =>
    entries.flatMap(({ capsule }) => (capsule === null ? [] : [capsule.id, ...capsule.ancestors]));
  const capsules = new Set(named(stays));
  const sorted = (entries: typeof newest): number[] => entries.map(({ version }) => version).sort((a, b) => a - b);
  return {
    versions: sorted(stays),
    capsules: [...capsules].sort(),
    removable_versions: sorted(newest.filter((entry) => !stays.includes(entry))),
    removable_capsules: [...new Set(named(newest))].filter((id) => !capsules.has(id)).sort(),
  };
}
