// Vectors of what lies beside capsules (testvectors/beside/README.md).

import { readFileSync } from "node:fs";
import { hex, unhex } from "../bytes.js";
import { checkModels, verifyEquivalence } from "../equivalence.js";
import { rootKeyId } from "../hashes.js";
import { unlock } from "../locked.js";
import { checkNotes, readNote } from "../note.js";
import { loadPublicKey } from "../signature.js";
import { readRegistry } from "../trust.js";
import type { TrustEntry, Uint } from "./index.js";
import { runOperations, type Vector } from "./operations.js";
import { trustOfKeys } from "./stated.js";

interface Input {
  file: string;
  trust: TrustEntry[];
  now: Uint;
  models: [string, string];
  registry: string;
  root: string;
  notes: string[];
  as: "signing" | "wrapping";
  passphrase: string | null;
}

const OPERATIONS = new Map<string, (input: Input) => unknown>([
  [
    "equivalence",
    ({ file, trust, now, models: [one, other] }) => {
      const said = verifyEquivalence(unhex(file), trustOfKeys(trust), BigInt(now));
      checkModels(said, unhex(one), unhex(other));
      const expires = said.expires === null ? null : Number(said.expires);
      return { issuer: said.issuer, issued_at: Number(said.issued), expires, key: hex(said.key) };
    },
  ],
  [
    "notes",
    ({ registry, root, notes }) => {
      const key = loadPublicKey(unhex(root));
      const { version, digest, bundle } = readRegistry(unhex(registry), { key, statement: null, issuers: null });
      const newest = bundle?.newest;
      const keys = newest === undefined ? [key] : [...newest.roots.map((one) => one.key), ...newest.stamps];
      const chain = newest?.chain ?? rootKeyId(key.bytes);
      const marks = notes.map((note) => readNote(note, keys));
      checkNotes({ chain, version, digest }, marks);
      return { versions: marks.map((mark) => [Number(mark.version), hex(mark.digest)]) };
    },
  ],
  ["locked-key", ({ file, as, passphrase }) => ({ secret: unlock(file, as, passphrase) })],
]);

export function runBeside(path: string): { ran: number; failed: number } {
  const { vectors } = JSON.parse(readFileSync(path, "utf8")) as { vectors: Vector<Input>[] };
  return runOperations(vectors, OPERATIONS);
}
