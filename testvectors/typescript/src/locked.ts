// Key files under a passphrase (capsule-v1 §8).

import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { argon2id } from "@noble/hashes/argon2.js";
import { equal, hex, text, unhex } from "./bytes.js";
import { b3 } from "./hashes.js";
import { refuse, require } from "./refusal.js";

const LOCKED = "KVCAP-SECRET-LOCKED-1";
const KINDS = {
  signing: ["KVCAP-SECRET-SIGN-1"],
  wrapping: ["KVCAP-SECRET-WRAP-1", "KVCAP-SECRET-HPKE-1", "KVCAP-SECRET-XWING-1"],
};

/** CAP-K-6: the one line of a file that holds its key. */
function keyLine(file: string): string {
  const lines = file.split("\n").map((line) => line.trimEnd());
  const found = lines.filter((line) => line !== "" && !line.startsWith("#") && !line.startsWith("issuer: "));
  const [line = ""] = found;
  require(found.length === 1, 942);
  return line;
}

function orRefuse<T>(code: number, make: () => T): T {
  try {
    return make();
  } catch {
    return refuse(code);
  }
}

/** The line of a secret key in a file under a passphrase. */
export function unlock(file: string, as: keyof typeof KINDS, passphrase: string | null): string {
  const line = keyLine(file);
  const digits = line.slice(LOCKED.length);
  require(line.startsWith(LOCKED) && /^([0-9A-F]{2}){16,}$/.test(digits), 942);
  if (passphrase === null || passphrase === "") return refuse(946);
  const bytes = unhex(digits.toLowerCase());
  const key = argon2id(text(passphrase), bytes.slice(0, 16), { t: 3, m: 65536, p: 4, dkLen: 32 });
  const cipher = chacha20poly1305(key, new Uint8Array(12), text(LOCKED));
  const plain = orRefuse(946, () => cipher.decrypt(bytes.slice(16)));
  const opened = orRefuse(942, () => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(plain));
  const secret = keyLine(file.replace(line, opened));
  const kind = KINDS[as].find((one) => secret.startsWith(one)) ?? refuse(942);
  const rest = secret.slice(kind.length);
  require(/^[0-9A-F]{72}$/.test(rest), 942);
  const held = unhex(rest.toLowerCase());
  const sum = b3("kvcap v1 key file", new Uint8Array([...text(kind), ...held.slice(0, 32)]), 4);
  require(equal(held.slice(32), sum), 942, hex(sum));
  return secret;
}
