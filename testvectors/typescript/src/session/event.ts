// Events and their chain (session-v1 §3), and the agent state (§4.2).

import { hex } from "../bytes.js";
import { b3 } from "../hashes.js";
import { refuse, require } from "../refusal.js";
import { countOf, digits, exactly, flagOf, listOf, textOf } from "./members.js";
import { isMembers, levels, type Members, toCbor, type Value } from "./value.js";

const MESSAGES = ["user", "assistant", "tool"];
const MAX_EVENT = 1 << 20;

export interface Event {
  seq: number;
  kind: string;
  body: Value;
  previous: string;
  /** As it was read. */
  value: Members;
}

export const isMessage = (event: Event): boolean => MESSAGES.includes(event.kind);

export function readEvent(value: Value): Event {
  const found = exactly(value, ["seq", "at", "kind", "body", "previous"]);
  countOf(found["at"]);
  const kind = textOf(found["kind"]);
  const seq = countOf(found["seq"], 1);
  const body = found["body"] ?? refuse(950);
  require([...MESSAGES, "milestone", "note", "revert"].includes(kind), 950);
  require(typeof body === "string" || isMembers(body), 950);
  checkBody(kind, seq, body);
  const event = { seq, kind, body, previous: digits(found["previous"]), value: found };
  require(toCbor(found).length <= MAX_EVENT, 951);
  return event;
}

/** SES-E-1. */
function checkBody(kind: string, seq: number, body: Value): void {
  require(kind === "milestone" || levels(body) <= 5, 204);
  if (MESSAGES.includes(kind) && isMembers(body)) require(body["role"] === undefined, 950);
  if (kind === "revert") require(countOf(exactly(body, ["to"])["to"]) <= seq - 1, 950);
  if (kind === "milestone" && isMembers(body) && body["agent_state"] !== undefined) readAgentState(body["agent_state"]);
}

/** SES-E-2. */
export const digestOf = (event: Event): string => hex(b3("kvcap v1 event", toCbor(event.value)));

/** SES-E-3. */
export function originOf({ tenant, subject, session }: { tenant?: string; subject?: string; session: string }): string {
  return hex(b3("kvcap v1 log", toCbor([tenant ?? "", subject ?? "", session])));
}

type Check = (value: Value) => void;
const texts: Check = (value) => void listOf(value, textOf);
const STATUS = ["pending", "active", "done", "dropped"];

/** A known member has its type; unknown ones are kept (SES-C-6). */
function known(checks: Record<string, Check>, needed?: string): Check {
  return (value) => {
    if (!isMembers(value)) return refuse(950);
    require(needed === undefined || value[needed] !== undefined, 950);
    for (const [name, check] of Object.entries(checks)) {
      const member = value[name];
      if (member !== undefined) check(member);
    }
  };
}

const each = (check: Check): Check => (value) => void listOf(value, check);
const AGENT_STATE = known({
  objective: textOf,
  repository: known({ remote: textOf, branch: textOf, commit: textOf, dirty: flagOf }),
  plan: each(known({ step: textOf, status: (value) => require(STATUS.includes(textOf(value)), 950) }, "step")),
  jobs: each(known({ id: textOf, what: textOf, where: textOf, submitted: (value) => countOf(value), status: textOf }, "id")),
  artifacts: each(known({ path: textOf, digest: textOf, what: textOf }, "path")),
  decisions: texts,
  known_issues: texts,
  next_actions: texts,
});

export function readAgentState(value: Value): Members {
  const found = isMembers(value) ? value : refuse(950);
  require(levels(found) <= 6, 204);
  AGENT_STATE(found);
  return found;
}
