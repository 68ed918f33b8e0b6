/** A refusal: a number of spec/errors.md. The text is for people. */
export class Refusal extends Error {
  constructor(
    readonly code: number,
    detail = "",
  ) {
    super(`KVC-${code}${detail === "" ? "" : `: ${detail}`}`);
  }
}

export function refuse(code: number, detail = ""): never {
  throw new Refusal(code, detail);
}

/** Refuses unless `holds`. */
export function require(holds: boolean, code: number, detail = ""): asserts holds {
  if (!holds) refuse(code, detail);
}

/** What a remote caller is told (CAP-A-3). */
export function publicCode(code: number): number {
  return [803, 804, 806, 901, 902, 903, 904, 905].includes(code) ? 806 : code;
}
