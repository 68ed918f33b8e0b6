// The ladder of a resume (session-v1 §7).

import { refuse, require } from "../refusal.js";

export interface State {
  name: string;
  positions: number;
  common?: number;
  whole: boolean;
  code?: number;
}

export interface Facts {
  context: number;
  reserve: number;
  states: State[];
  bases: State[];
  history: { code?: number; messages: number };
  /** States that failed after a plan (SES-L-3). */
  failed?: { name: string; code: number }[];
}

export const RUNGS = ["exact", "shorter", "history-only", "fresh"] as const;

export interface Step {
  rung: (typeof RUNGS)[number];
  state?: string;
  positions?: number;
  code?: number;
}

const SENTENCES = {
  exact: "The conversation goes on where it stopped.",
  shorter: "Part of the model's memory was restored; the rest of the conversation is read again.",
  "history-only":
    "The model's memory could not be restored; it reads a summary and the latest turns again, and may miss details of earlier ones.",
  fresh: "Nothing of the earlier conversation could be used; this is a new one.",
};

/** The session has no turns yet. */
const EMPTY = 956;

/** Codes after which no state can be judged or used (SES-L-4). */
function spoilsAll(code: number): boolean {
  const within = (from: number, to: number): boolean => code >= from && code <= to;
  return code === EMPTY || within(308, 311) || [313, 314, 315, 316, 401, 412].includes(code) || within(601, 604) || within(608, 612) || within(930, 933);
}

/** A fault of the device or of the log: no rung is taken (SES-L-4). */
const stops = (code: number): boolean => code === 907 || (code >= 940 && code <= 948) || (code >= 952 && code <= 955);
const MAX_STATES = 256;

export function plan(facts: Facts): { steps: Step[]; taken: Step; reason: number; sentence: string } {
  require(facts.states.length + facts.bases.length <= MAX_STATES, 951);
  for (const { code } of facts.failed ?? []) if (stops(code)) refuse(code);
  const { states, bases } = judged(facts);
  const [newest] = states;
  const steps: Step[] = [
    newest === undefined ? { rung: "exact", code: 957 } : stepOf("exact", newest, facts),
    ...[...states, ...bases].map((state) => stepOf("shorter", state, facts)),
    historyOf(facts),
    { rung: "fresh" },
  ];
  const free = steps.filter(({ code }) => code === undefined);
  const shorter = free.filter(({ rung }) => rung === "shorter");
  const most = Math.max(...shorter.map(({ positions }) => positions ?? 0));
  const taken =
    free.find(({ rung }) => rung === "exact") ??
    shorter.find(({ positions }) => positions === most) ??
    free.find(({ rung }) => rung === "history-only") ?? { rung: "fresh" as const };
  return { steps, taken, reason: steps[0]?.code ?? 0, sentence: SENTENCES[taken.rung] };
}

/** The states with the codes that they, or others, have met. */
function judged({ states, bases, failed = [] }: Facts): { states: State[]; bases: State[] } {
  const codes = new Map<State, number>();
  const all = [...states, ...bases];
  for (const state of all) if (state.code !== undefined) codes.set(state, state.code);
  for (const { name, code } of failed) {
    const met = all.find((state) => state.name === name);
    if (met !== undefined) codes.set(met, code);
    if (spoilsAll(code)) for (const state of all) if (!codes.has(state)) codes.set(state, code);
  }
  const coded = (state: State): State => {
    const code = codes.get(state);
    return code === undefined ? state : { ...state, code };
  };
  return { states: states.map(coded), bases: bases.map(coded) };
}

function stepOf(rung: "exact" | "shorter", state: State, { context, reserve }: Facts): Step {
  const common = state.common ?? state.positions;
  const positions = Math.min(state.positions, common);
  const code = refused(rung, state, common, context !== 0 && positions + reserve > context);
  return { rung, state: state.name, positions, ...(code === null ? {} : { code }) };
}

function refused(rung: "exact" | "shorter", state: State, common: number, tooLong: boolean): number | null {
  if (state.code !== undefined) return state.code;
  if (rung === "exact" ? common < state.positions : common === 0) return 960;
  if (common < state.positions && state.whole) return 961;
  return tooLong ? 959 : null;
}

function historyOf({ history, failed = [] }: Facts): Step {
  const empty = history.messages === 0 || failed.some(({ code }) => code === EMPTY);
  const code = history.code ?? (empty ? EMPTY : undefined);
  return { rung: "history-only", ...(code === undefined ? {} : { code }) };
}
