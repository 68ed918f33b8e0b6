// Versions that a relay keeps (session-v1 §11.1).

import { view } from "../bytes.js";
import { require } from "../refusal.js";
import { digestOf, type Event, originOf, readEvent } from "./event.js";
import { countOf, exactly, nameOf } from "./members.js";
import { readCapsule, readRecord } from "./record.js";
import { type Members, readCbor, type Value } from "./value.js";

const MAX_LOG = 256 << 20;
const MAX_ITEM = 1 << 20;

export interface Names {
  tenant?: string;
  subject?: string;
  session: string;
}

export interface SealedVersion {
  record: Members;
  origin: string;
  created: number;
  after: number;
  events: Value[];
}

function items(log: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = [];
  let rest = log;
  while (rest.length > 0) {
    require(rest.length >= 4, 950);
    const length = view(rest).getUint32(0, true);
    require(length <= MAX_ITEM, 951);
    require(rest.length >= 4 + length, 950);
    found.push(rest.subarray(4, 4 + length));
    rest = rest.subarray(4 + length);
  }
  return found;
}

/** SES-V-2: the version that two sections hold, of a session of these names. */
export function readSealed(history: Uint8Array, log: Uint8Array, names: Names): SealedVersion {
  const own = readRecord(readCbor(history)).value;
  for (const name of ["tenant", "subject", "session"] as const) require(own[name] === names[name], 950);
  require(log.length <= MAX_LOG, 951);
  const [first, ...rest] = items(log);
  require(first !== undefined, 950);
  const piece = exactly(readCbor(first), ["form", "origin", "created", "after"], ["capsule"]);
  require(piece["form"] === 1, 950);
  const origin = nameOf(piece["origin"]);
  const after = countOf(piece["after"]);
  const created = countOf(piece["created"]);
  const capsule = piece["capsule"];
  if (capsule !== undefined) readCapsule(capsule);
  const record = readRecord(capsule === undefined ? own : { ...own, capsule });
  const events = rest.map((item) => readEvent(readCbor(item)));
  follow(events, after, after === 0 ? originOf({ ...names, session: origin }) : null, record);
  return { record: record.value, origin, created, after, events: events.map(({ value }) => value) };
}

/** SES-E-4, from one cursor to another. */
function follow(events: Event[], after: number, before: string | null, end: { cursor: number; head: string }): void {
  let [cursor, head] = [after, before];
  for (const event of events) {
    require(event.seq === cursor + 1, 952);
    require(head === null || event.previous === head, 953);
    [cursor, head] = [event.seq, digestOf(event)];
  }
  require(cursor === end.cursor, 952);
  require(head === null || head === end.head, 953);
}
