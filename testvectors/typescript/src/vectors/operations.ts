// Vectors that name an operation: accepted ones must give the same, refused ones the same code.

import { isDeepStrictEqual } from "node:util";
import { Refusal, refuse } from "../refusal.js";

export interface Vector<Input> {
  name: string;
  operation: string;
  input: Input;
  code: number;
  output?: unknown;
}

export type Operations<Input> = Map<string, (input: Input) => unknown>;

/** Runs what each vector names, and says what differs. */
export function runOperations<Input>(vectors: Vector<Input>[], operations: Operations<Input>): { ran: number; failed: number } {
  let failed = 0;
  for (const vector of vectors) {
    const problem = check(vector, operations);
    if (problem === null) continue;
    failed += 1;
    console.log(`${vector.name} (${vector.operation}): ${problem}`);
  }
  return { ran: vectors.length, failed };
}

function check<Input>({ operation, input, code, output }: Vector<Input>, operations: Operations<Input>): string | null {
  const run = operations.get(operation) ?? refuse(944, operation);
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
