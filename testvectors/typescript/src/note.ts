// Notes of a registry's versions (registry-v1 §9).

import { sha256 } from "@noble/hashes/sha2.js";
import { type Bytes, concat, equal, hex, text, unhex } from "./bytes.js";
import { rootKeyId } from "./hashes.js";
import { refuse, require } from "./refusal.js";
import { verifyOr308 } from "./roots.js";
import type { PublicKey } from "./signature.js";

const LONGEST = 4096;

export interface Mark {
  chain: Uint8Array;
  version: bigint;
  digest: Uint8Array;
}

/** RFC 4648 §4, in its one form. */
function unbase64(digits: string): Uint8Array {
  const bytes = Buffer.from(digits, "base64");
  require(bytes.toString("base64") === digits, 313);
  return new Uint8Array(bytes);
}

const nameOf = (key: PublicKey): string => `kvcap.root/${hex(rootKeyId(key.bytes))}`;

const keyHash = (name: string, key: PublicKey): Bytes =>
  new Uint8Array(sha256(concat(text(name), new Uint8Array([0x0a, 0x01]), key.bytes)).slice(0, 4));

/** REG-N-1, REG-N-2: a note that one of the keys has signed. */
export function readNote(note: string, keys: readonly PublicKey[]): Mark {
  require(text(note).length <= LONGEST, 313);
  const found = /^(kvcap\.registry\/([0-9a-f]{32})\n(0|[1-9][0-9]*)\n([A-Za-z0-9+/=]+)\n)\n([^]*)$/.exec(note);
  if (found === null) return refuse(313);
  const [, signed = "", chain = "", version = "", digest = "", rest = ""] = found;
  const mark = { chain: unhex(chain), version: BigInt(version), digest: unbase64(digest) };
  require(mark.digest.length === 32, 313);
  let count = 0;
  for (const line of rest.replace(/\n$/, "").split("\n").filter((one) => rest !== "" || one !== "")) {
    const [, signer = "", base64 = ""] = /^\u2014 ([^ ]+) ([^ ]+)$/.exec(line) ?? refuse(313);
    const bytes = unbase64(base64);
    const key = keys.find((one) => nameOf(one) === signer);
    if (key === undefined || !equal(bytes.slice(0, 4), keyHash(signer, key))) continue;
    require(bytes.length === 68, 313);
    verifyOr308(key, text(signed), bytes.slice(4));
    count += 1;
  }
  require(count > 0, 308);
  return mark;
}

/** REG-N-3. */
export function checkNotes(own: Mark, notes: readonly Mark[]): void {
  const seen = [own];
  for (const mark of notes) {
    require(equal(mark.chain, own.chain), 309);
    require(seen.every((one) => one.version !== mark.version || equal(one.digest, mark.digest)), 309);
    seen.push(mark);
  }
}
