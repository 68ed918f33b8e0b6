// What of a state can be cut (session-v1 §7).

import { banksOf } from "../consistent.js";
import type { Manifest } from "../manifest.js";
import { byPosition } from "../stream.js";

const KNOWN = ["mlx-lm", "llama.cpp", "transformers"];

/** SES-L-5: the state opens whole or not at all. */
export function isWhole(manifest: Manifest): boolean {
  const { runtime, prefix, positions } = manifest;
  if (!KNOWN.includes(runtime.name) || prefix.scheme === 0) return true;
  const ofEveryPosition = banksOf(manifest).every(
    (bank) => byPosition(bank) && bank.rows.kind === "from" && bank.rows.start === positions.start,
  );
  const evaluated = prefix.count === positions.end || prefix.count === positions.end + 1n;
  return !ofEveryPosition || !evaluated;
}
