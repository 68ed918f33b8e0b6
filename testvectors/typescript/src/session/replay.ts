// Replay and context (session-v1 §5, §6).

import { text } from "../bytes.js";
import { refuse, require } from "../refusal.js";
import { digestOf, type Event, isMessage, readAgentState } from "./event.js";
import type { Record } from "./record.js";
import { isMembers, type Members, toJson, type Value } from "./value.js";

const MAX_TURNS = 8;
const LEAVING = 5;
const MAX_SUMMARY = 16_384;

interface Judged {
  cursor: number;
  head: string;
  /** Of the events of this call. */
  live: Event[];
}

/** SES-R-1 … SES-R-3. */
function judge(record: Record, events: readonly Event[]): Judged {
  let [cursor, head] = [record.cursor, record.head];
  const seen = new Map([[cursor, head]]);
  let live: Event[] = [];
  /** What was live after each event of this call. */
  const after = new Map<number, Event[]>([[cursor, []]]);
  for (const event of events) {
    require(event.seq <= cursor + 1, 952);
    if (event.seq === cursor + 1) {
      require(event.previous === head, 953);
      [cursor, head] = [event.seq, digestOf(event)];
      seen.set(cursor, head);
      if (event.kind === "revert" && isMembers(event.body)) {
        const to = Number(event.body["to"]);
        require(to >= record.cursor, 958);
        live = after.get(to) ?? refuse(958);
      } else {
        live = [...live, event];
      }
      after.set(cursor, live);
      continue;
    }
    const known = seen.get(event.seq);
    require(known === undefined || known === digestOf(event), 953);
  }
  return { cursor, head, live };
}

/** The record after these events. */
export function replay(record: Record, events: readonly Event[]): Members {
  const { cursor, head, live } = judge(record, events);
  let { summary, summaryCursor } = record;
  let recent = [...record.recent];
  for (const message of live.filter(isMessage)) {
    if (message.kind === "user" && turnsOf(recent).length === MAX_TURNS) {
      const leaving = turnsOf(recent).slice(0, LEAVING).flat();
      recent = recent.slice(leaving.length);
      summary = summarize(summary, leaving);
      summaryCursor = leaving[leaving.length - 1]?.seq ?? summaryCursor;
    }
    recent.push(message);
  }
  return {
    ...record.value,
    replay_cursor: cursor,
    head,
    turns: record.turns + live.filter(({ kind }) => kind === "user").length,
    messages: record.messages + live.filter(isMessage).length,
    summary,
    summary_cursor: summaryCursor,
    recent: recent.map(({ value }) => value),
    agent_state: agentState(record, live),
  };
}

/** SES-R-5. */
function agentState(record: Record, live: readonly Event[]): Members {
  const told = live.flatMap(({ kind, body }) =>
    kind === "milestone" && isMembers(body) && body["agent_state"] !== undefined ? [readAgentState(body["agent_state"])] : [],
  );
  return told[told.length - 1] ?? record.agentState;
}

/** A turn begins with each `user` message; what is before the first belongs to it. */
function turnsOf(messages: readonly Event[]): Event[][] {
  const turns: Event[][] = [];
  let begun = false;
  for (const message of messages) {
    const last = turns[turns.length - 1];
    if (last === undefined || (message.kind === "user" && begun)) turns.push([message]);
    else last.push(message);
    begun ||= message.kind === "user";
  }
  return turns;
}

/** The plain summarizer (SES-R-7). */
function summarize(before: string, leaving: readonly Event[]): string {
  let summary = before;
  for (const { kind, body } of leaving) {
    if (kind === "tool") continue;
    const content = typeof body === "string" ? body : isMembers(body) ? body["content"] : "";
    const line = typeof content === "string" ? [...content.replace(/[\n\r]/g, " ")].slice(0, 200).join("") : "";
    summary += `${kind}: ${line}\n`;
  }
  while (text(summary).length > MAX_SUMMARY) {
    const end = summary.indexOf("\n");
    if (end < 0 || end === summary.length - 1) return cut(summary, MAX_SUMMARY);
    summary = summary.slice(end + 1);
  }
  return summary;
}

/** The first characters that fit into so many bytes. */
function cut(line: string, most: number): string {
  let [kept, length] = ["", 0];
  for (const character of line) {
    length += text(character).length;
    if (length > most) break;
    kept += character;
  }
  return kept;
}

export interface Context {
  stable: Value[];
  delta: Value[];
  left_out: number;
}

/** SES-X-1 … SES-X-4. */
export function context(record: Record, events: readonly Event[], stated: number | null, most: number): Context {
  const { live } = judge(record, events);
  const seen = stated ?? record.cursor;
  require(seen >= record.summaryCursor, 958);
  require(seen <= record.cursor, 950);
  const all = [...record.recent, ...live.filter(isMessage)];
  const system = systemMessage(record.summary, agentState(record, live));
  const delta = all.filter(({ seq }) => seq > seen).map(messageOf);
  const turns = turnsOf(all.filter(({ seq }) => seq <= seen)).map((turn) => turn.map(messageOf));
  const bytes = (messages: Value[]): number => messages.reduce<number>((sum, message) => sum + text(toJson(message)).length, 0);
  let leftOut = 0;
  for (;;) {
    const stable = [...system, ...turns.flat()];
    if (bytes(stable) + bytes(delta) <= most) return { stable, delta, left_out: leftOut };
    leftOut += (turns.shift() ?? refuse(951)).length;
  }
}

function messageOf({ kind, body }: Event): Value {
  return isMembers(body) ? { ...body, role: kind } : { role: kind, content: body };
}

/** SES-X-3. */
function systemMessage(summary: string, state: Members): Value[] {
  const parts: string[] = [];
  const told = summary.replace(/\n+$/, "");
  if (told !== "") parts.push(`Summary of the conversation so far:\n${told}`);
  if (Object.keys(state).length > 0) parts.push(`State of the work:\n${toJson(state)}`);
  return parts.length === 0 ? [] : [{ role: "system", content: parts.join("\n\n") }];
}
