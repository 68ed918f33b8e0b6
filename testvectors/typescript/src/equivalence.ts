// Statements that two models are one (model-id-v1 §13).

import { compare, equal } from "./bytes.js";
import { type Item, parse } from "./cbor.js";
import { type Profile, readEnvelope, toBeSigned } from "./envelope.js";
import { Fields, of } from "./fields.js";
import { require } from "./refusal.js";
import { verifySignature } from "./signature.js";
import type { Trust } from "./trust.js";

const LONGEST = 4096;
const CLOCK_SKEW = 60n;

const STATEMENT: Profile = {
  labels: [1, 3, 4, 16],
  contentType: "application/vnd.kvcap.models+cbor",
  type: "application/vnd.kvcap.equivalence",
};

export interface Equivalence {
  models: [Uint8Array, Uint8Array];
  issuer: string;
  issued: bigint;
  expires: bigint | null;
  key: Uint8Array;
}

const fields: Fields = new Fields(610);

/** MOD-E-5. */
function readStatement(payload: Uint8Array, key: Uint8Array): Equivalence {
  const map = fields.map(parse(payload), [1, 2, 3, 4], [5]);
  fields.oneOf(of(map, 1), 1);
  const issuer = fields.text(of(map, 2), 1);
  const issued = fields.uint(of(map, 3));
  const [one, other] = fields.tuple(of(map, 4), 2) as [Item, Item];
  const models: [Uint8Array, Uint8Array] = [fields.bytes(one, 32), fields.bytes(other, 32)];
  require(compare(...models) < 0, 610);
  const end = map.get(5);
  const expires = end === undefined ? null : fields.uint(end);
  require(expires === null || expires > issued, 610);
  return { models, issuer, issued, expires, key };
}

/** MOD-E-6, MOD-E-8. */
export function verifyEquivalence(file: Uint8Array, trust: Trust, now: bigint): Equivalence {
  require(file.length <= LONGEST, 610);
  const envelope = readEnvelope(file, STATEMENT);
  const key = trust.find(envelope.kid, now);
  verifySignature(key.key, toBeSigned(envelope), envelope.signature);
  const said = readStatement(envelope.payload, envelope.kid);
  require(!key.forCapsules, 302);
  require(said.issued >= key.notBefore && (key.signUntil === null || said.issued < key.signUntil), 303);
  require(key.verifyUntil === null || now < key.verifyUntil, 303);
  require(said.issued <= now + CLOCK_SKEW, 403);
  require(said.expires === null || now < said.expires, 402);
  require(said.issuer === key.issuer, 312);
  return said;
}

/** MOD-E-7. */
export function checkModels({ models: [low, high] }: Equivalence, one: Uint8Array, other: Uint8Array): void {
  require((equal(one, low) && equal(other, high)) || (equal(one, high) && equal(other, low)), 609);
}
