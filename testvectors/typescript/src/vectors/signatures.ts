// Other people's signature vectors under CAP-E-11 (testvectors/ed25519/README.md).

import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { unhex } from "../bytes.js";
import { Refusal } from "../refusal.js";
import { loadPublicKey, verifySignature } from "../signature.js";

export function runSignatures(path: string): { ran: number; failed: number } {
  const [names = "", ...lines] = gunzipSync(readFileSync(path)).toString("utf8").trimEnd().split("\n");
  const columns = names.split("\t");
  let failed = 0;
  for (const line of lines) {
    const fields = line.split("\t");
    const field = (name: string): string => fields[columns.indexOf(name)] ?? "";
    const code = verdict(unhex(field("key")), unhex(field("msg")), unhex(field("sig")));
    if (code === Number(field("code"))) continue;
    failed += 1;
    console.log(`${fields[0]}: ${code} instead of ${field("code")}`);
  }
  return { ran: lines.length, failed };
}

function verdict(key: Uint8Array, message: Uint8Array, signature: Uint8Array): number {
  try {
    verifySignature(loadPublicKey(key), message, signature);
    return 0;
  } catch (error) {
    if (error instanceof Refusal) return error.code;
    throw error;
  }
}
