// The runtime's count, and what is kept of it (session-v1 §7, §10, §12).

import { refuse, require } from "../refusal.js";
import { type Facts, plan, RUNGS } from "./ladder.js";
import { countOf, exactly, listOf, textOf } from "./members.js";
import { type Members, readJson, type Value } from "./value.js";

const INEFFECTIVE = 926;
const MOST_LINES = 2048;
const KEPT_LINES = 1024;

/** A resume whose count is not told yet. */
interface Claim {
  milliseconds: number;
  rung: string;
  code?: number;
  state?: string;
  positions: number;
  ineffective: string[];
}

/** What a runtime tells of a request. */
export interface Reuse {
  restored: number;
  evaluated: number;
  milliseconds?: number;
  device?: string;
}

export interface Answer {
  claim: Value;
  reuse: Reuse;
  milliseconds: number;
  facts: Facts;
}

type Confirmed = { observation: Members } | { refused: number; ineffective: string[]; plan: ReturnType<typeof plan> };

const rungOf = (value: Value | undefined): string => {
  const rung = textOf(value);
  return (RUNGS as readonly string[]).includes(rung) ? rung : refuse(950);
};

function readClaim(value: Value): Claim {
  const found = exactly(value, ["milliseconds", "rung", "positions", "ineffective"], ["code", "state"]);
  const { code, state } = found;
  return {
    milliseconds: countOf(found["milliseconds"]),
    rung: rungOf(found["rung"]),
    ...(code === undefined ? {} : { code: countOf(code) }),
    ...(state === undefined ? {} : { state: textOf(state) }),
    positions: countOf(found["positions"]),
    ineffective: listOf(found["ineffective"], textOf),
  };
}

/** SES-L-8. */
export function confirm({ claim: told, reuse, milliseconds, facts }: Answer): Confirmed {
  const claim = readClaim(told);
  const { restored, evaluated, device } = reuse;
  const asked = restored + evaluated;
  if (claim.state !== undefined && restored < Math.min(claim.positions, asked) - 1) {
    const ineffective = [...claim.ineffective, claim.state];
    const failed = ineffective.map((name) => ({ name, code: INEFFECTIVE }));
    return { refused: INEFFECTIVE, ineffective, plan: plan({ ...facts, failed }) };
  }
  const observation = {
    at: Math.floor(claim.milliseconds / 1000),
    rung: claim.rung,
    ...(claim.code === undefined ? {} : { code: claim.code }),
    milliseconds: reuse.milliseconds ?? Math.max(0, milliseconds - claim.milliseconds),
    asked,
    restored,
    evaluated,
    ...(device === undefined ? {} : { device }),
  };
  return { observation };
}

function readObservation(line: string): Members {
  const found = exactly(readJson(line), ["at", "rung", "milliseconds", "asked", "restored", "evaluated"], ["code", "device"]);
  rungOf(found["rung"]);
  for (const name of ["at", "milliseconds", "asked", "restored", "evaluated"]) countOf(found[name]);
  if (found["code"] !== undefined) countOf(found["code"]);
  if (found["device"] !== undefined) textOf(found["device"]);
  return found;
}

/** SES-F-7: the observations of a file, and one more where a resume is answered for first. */
export function observations(file: string, answer: Answer | null): Members[] {
  const lines = file.split("\n");
  lines.pop(); // what is behind the last line feed has no end
  if (lines[lines.length - 1]?.includes("\0") === true) lines.pop();
  if (answer !== null) {
    const confirmed = confirm(answer);
    require("observation" in confirmed, INEFFECTIVE);
    if (lines.length >= MOST_LINES) lines.splice(0, lines.length - KEPT_LINES);
    lines.push(JSON.stringify(confirmed.observation));
  }
  return lines.map(readObservation);
}
