// Unwrapping the content key (capsule-v1 §9.3): a symmetric key, HPKE over X25519, HPKE over X-Wing.

import { chacha20poly1305, xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { x25519 } from "@noble/curves/ed25519.js";
import { expand, extract } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { sha3_256, shake256 } from "@noble/hashes/sha3.js";
import { ml_kem768 } from "@noble/post-quantum/ml-kem.js";
import { concat, equal, text, u64 } from "./bytes.js";
import { b3 } from "./hashes.js";
import type { Recipient } from "./manifest.js";
import { refuse } from "./refusal.js";

export interface WrappingKey {
  type: number;
  secret: Uint8Array;
}

const MLKEM_CIPHERTEXT = 1088;
const EMPTY = new Uint8Array(0);

/** The content key for `key` (CAP-R-2). */
export function unwrap(recipients: Recipient[], key: WrappingKey, cti: Uint8Array, suite: number): Uint8Array {
  const id = keyId(key);
  const entry = recipients.find((recipient) => recipient.type === key.type && equal(recipient.keyId, id)) ?? refuse(809);
  const aad = concat(text("kvcap v1 wrap"), entry.keyId, cti);
  try {
    if (key.type === 1) return xchacha20poly1305(key.secret, entry.sent, aad).decrypt(entry.wrapped);
    const info = concat(text("kvcap v1 hpke"), u64(BigInt(suite)));
    const [kem, shared] =
      key.type === 2 ? [0x0020, x25519Decapsulate(key.secret, entry.sent)] : [0x647a, xwingDecapsulate(key.secret, entry.sent)];
    return openBase(kem, shared, info, aad, entry.wrapped);
  } catch {
    return refuse(803);
  }
}

function keyId(key: WrappingKey): Uint8Array {
  if (key.type === 1) return b3("kvcap v1 wrap key id", key.secret, 16);
  const publicKey = key.type === 2 ? x25519.getPublicKey(key.secret) : xwingKey(key.secret).publicKey;
  return b3("kvcap v1 hpke key id", publicKey, 16);
}

const pair = (n: number): Uint8Array => new Uint8Array([n >> 8, n & 255]);

function labeledExtract(suite: Uint8Array, salt: Uint8Array, label: string, input: Uint8Array): Uint8Array {
  return extract(sha256, concat(text("HPKE-v1"), suite, text(label), input), salt);
}

function labeledExpand(suite: Uint8Array, key: Uint8Array, label: string, info: Uint8Array, length: number): Uint8Array {
  return expand(sha256, key, concat(pair(length), text("HPKE-v1"), suite, text(label), info), length);
}

/** DHKEM(X25519, HKDF-SHA256); noble refuses a secret of all zeros. */
function x25519Decapsulate(secret: Uint8Array, enc: Uint8Array): Uint8Array {
  const suite = concat(text("KEM"), pair(0x0020));
  const shared = x25519.getSharedSecret(secret, enc);
  const extracted = labeledExtract(suite, EMPTY, "eae_prk", shared);
  return labeledExpand(suite, extracted, "shared_secret", concat(enc, x25519.getPublicKey(secret)), 32);
}

function xwingKey(seed: Uint8Array): { lattice: Uint8Array; curve: Uint8Array; publicKey: Uint8Array } {
  const expanded = shake256(seed, { dkLen: 96 });
  const { publicKey, secretKey } = ml_kem768.keygen(expanded.slice(0, 64));
  const curve = expanded.slice(64);
  return { lattice: secretKey, curve, publicKey: concat(publicKey, x25519.getPublicKey(curve)) };
}

/** draft-connolly-cfrg-xwing-kem: the shared secret is HPKE's. */
function xwingDecapsulate(seed: Uint8Array, enc: Uint8Array): Uint8Array {
  const { lattice, curve, publicKey } = xwingKey(seed);
  const ephemeral = enc.subarray(MLKEM_CIPHERTEXT);
  const first = ml_kem768.decapsulate(enc.slice(0, MLKEM_CIPHERTEXT), lattice);
  const second = x25519.getSharedSecret(curve, ephemeral);
  return sha3_256(concat(first, second, ephemeral, publicKey.subarray(-32), text("\\.//^\\")));
}

/** OpenBase of RFC 9180: the first message of its context. */
function openBase(kem: number, shared: Uint8Array, info: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array {
  const suite = concat(text("HPKE"), pair(kem), pair(0x0001), pair(0x0003));
  const named = concat(
    new Uint8Array([0]),
    labeledExtract(suite, EMPTY, "psk_id_hash", EMPTY),
    labeledExtract(suite, EMPTY, "info_hash", info),
  );
  const secret = labeledExtract(suite, shared, "secret", EMPTY);
  const key = labeledExpand(suite, secret, "key", named, 32);
  const nonce = labeledExpand(suite, secret, "base_nonce", named, 12);
  return chacha20poly1305(key, nonce, aad).decrypt(sealed);
}
