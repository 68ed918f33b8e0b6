// Vectors whose outcome a verifier without secret and memory gives, and what the page is told for each.

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { blake3 } from "@noble/hashes/blake3.js";

const FOLDER = new URL("../../../testvectors/vectors", import.meta.url).pathname;
const index = JSON.parse(readFileSync(join(FOLDER, "manifest.json"), "utf8"));

export function content(name) {
  const path = join(FOLDER, name);
  if (existsSync(path)) return name.endsWith(".gz") ? gunzipSync(readFileSync(path)) : readFileSync(path);
  return gunzipSync(readFileSync(`${path}.gz`));
}

/** The line of a public key file (capsule-v1 §8). */
function keyLine(prefix, digits) {
  const bytes = Buffer.from(digits, "hex");
  const context = new TextEncoder().encode("kvcap v1 key file");
  const check = blake3(Buffer.concat([Buffer.from(prefix), bytes]), { context, dkLen: 32 }).slice(0, 4);
  return `${prefix}${digits}${Buffer.from(check).toString("hex")}`;
}

const plainKey = (key) => key.for_capsules && !key.compromised && key.not_before === 0 && key.sign_until === null && key.verify_until === null && key.suites.length === 2;

/** A parent that is not there, and what is not the parent: the page goes on without it, and says so. */
const WITHOUT_PARENT = [701, 702];

/** What a page cannot state: these contexts are another reader's. */
function isOurs({ stage, code, context }) {
  if (!["trust", "header", "verify", "chain", "body", "accept"].includes(stage) || WITHOUT_PARENT.includes(code)) return false;
  const known = ["parents", "now", "trust", "registry", "audiences", "subject", "organisation", "wrapping_key", "wrapping_type", "reads"];
  if (Object.keys(context).some((name) => !known.includes(name))) return false;
  const { trust, registry, audiences } = { ...index.default_context, ...context };
  if (!trust.every(plainKey) || audiences.length !== 1) return false;
  return registry === null || (registry.files.length === 1 && registry.seen === null && !registry.seen_roots && !registry.issuers);
}

/** The first vector of each code, and as many that are accepted. */
export function chosen(most) {
  const seen = new Set();
  const ours = index.vectors.filter(isOurs).filter((vector) => content(vector.file).length > 0 || vector.code === 101);
  const bad = ours.filter(({ code }) => code !== 0 && !seen.has(code) && seen.add(code));
  const good = ours.filter(({ code }) => code === 0);
  const half = Math.ceil(most / 2);
  const step = Math.max(1, Math.floor(good.length / half));
  return [...good.filter((_, i) => i % step === 0).slice(0, half), ...bad.slice(0, most === Infinity ? bad.length : Math.max(half, most - half))];
}

/** A file as the browser is given it: what is large by its path. */
function given(name) {
  const buffer = content(name);
  if (buffer.length < 32 << 20) return { name, mimeType: "application/vnd.kvcap", buffer };
  const folder = mkdtempSync(join(tmpdir(), "kvcap-inspect-"));
  process.on("exit", () => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, "large.kvcap"), buffer);
  return join(folder, "large.kvcap");
}

/** What a verifier is given of a root: its key, or a statement's digest. */
function rootText({ root, statement }) {
  return statement ? keyLine("kvcap-roots-1", statement) : keyLine("kvcap-root-1", root);
}

export function asked({ context, file }) {
  const { now, trust, registry, audiences, subject, organisation, parents } = { ...index.default_context, ...context };
  return {
    file: given(file),
    ancestors: parents.map(given),
    now: String(now),
    keys: trust.map(({ issuer, key }) => `issuer: ${issuer}\n${keyLine("kvcap-pub-1", key)}\n`).join(""),
    registry: registry && { name: "keys.kvreg", mimeType: "application/octet-stream", buffer: content(registry.files[0]) },
    root: registry ? rootText(registry) : "",
    audience: audiences[0],
    subject: subject ?? "",
    tenant: organisation ?? "",
  };
}
