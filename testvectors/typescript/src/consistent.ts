// What the parts of one manifest say of each other (capsule-v1 §6, §7; lineage-v1 §2.1).

import { hex } from "./bytes.js";
import { applies, encodedFits, needsProfile, plainLength } from "./codecs/registry.js";
import type { Claims } from "./envelope.js";
import { MAX_U32, MAX_U64 } from "./limits.js";
import type { Manifest } from "./manifest.js";
import { type Prologue, ROW } from "./prologue.js";
import { require } from "./refusal.js";
import { type Bank, byPosition, identity, isLossyBank, ROLE, SECTION, type Section } from "./stream.js";

export const banksOf = (manifest: Manifest): Bank[] =>
  manifest.streams.filter((stream): stream is Bank => stream.kind === "bank");

export const sectionsOf = (manifest: Manifest, kind: number): Section[] =>
  manifest.streams.filter((stream): stream is Section => stream.kind === "section" && stream.section === kind);

export function chunkCount(encodedLen: bigint, chunkLen: number): bigint {
  return (encodedLen + BigInt(chunkLen) - 1n) / BigInt(chunkLen);
}

/** CAP-M-6, then every stream by itself, then the whole. */
export function checkConsistent(manifest: Manifest, claims: Claims, prologue: Prologue): void {
  require(manifest.measured.length === manifest.streams.length, 507);
  manifest.streams.forEach((stream, i) => {
    if (stream.kind === "bank") checkBank(stream, manifest.measured[i]?.encodedLen ?? 0n, manifest);
  });
  checkLengths(manifest, prologue);
  checkPositions(manifest);
  checkRopes(manifest);
  checkLayers(manifest);
  checkSections(manifest);
  checkRecipients(manifest);
  checkIncrement(manifest, claims);
}

/** CAP-M-2, CAP-S-16, CAP-T-1, CAP-T-4. */
function checkLengths(manifest: Manifest, prologue: Prologue): void {
  require(manifest.tablesLen === BigInt(prologue.tablesLen), 507);
  let body = 0n;
  let rows = 0n;
  manifest.streams.forEach((stream, i) => {
    const encoded = manifest.measured[i]?.encodedLen ?? 0n;
    if (stream.kind === "section") require(encoded === stream.plainLen, 507);
    const chunks = chunkCount(encoded, stream.chunkLen);
    require(chunks <= MAX_U32, 503);
    body += encoded;
    rows += chunks;
  });
  require(body <= MAX_U64, 504);
  require(body === prologue.bodyLen, 507);
  require(rows * BigInt(ROW) <= BigInt(prologue.tablesLen), 802);
}

/** CAP-M-5. */
function checkPositions(manifest: Manifest): void {
  const { start, end } = manifest.positions;
  const tokens = banksOf(manifest).some((bank) => bank.shape.kind === "tokens");
  require(start < end || (start === 0n && end === 0n && !tokens), 507);
}

/** CAP-M-11. */
function checkRopes(manifest: Manifest): void {
  const seen = new Set<number>();
  for (const layer of manifest.ropes.flatMap((rope) => rope.layers)) {
    require(layer < manifest.layers && !seen.has(layer), 507);
    seen.add(layer);
  }
}

/** CAP-S-1, CAP-S-3, CAP-S-4. */
function checkLayers(manifest: Manifest): void {
  const banks = banksOf(manifest);
  require(new Set(banks.map(identity)).size === banks.length, 505);
  const stateless = new Set(manifest.stateless);
  const counts = new Map<number, number[]>();
  for (const bank of banks) {
    require(bank.layer < manifest.layers && !stateless.has(bank.layer), 507);
    const roles = counts.get(bank.layer) ?? [0, 0, 0, 0, 0, 0, 0, 0];
    roles[bank.role] = (roles[bank.role] ?? 0) + 1;
    counts.set(bank.layer, roles);
  }
  require([...stateless].every((layer) => layer < manifest.layers), 507);
  require(counts.size + stateless.size === manifest.layers, 507);
  for (const roles of counts.values()) {
    require(roles[ROLE.key] === roles[ROLE.value], 507);
    require(roles[ROLE.ropeKey] === 0 || roles[ROLE.ropeKey] === roles[ROLE.latent], 507);
  }
}

/** CAP-S-2, CAP-S-5 … CAP-S-7, CAP-S-9, CAP-S-13. */
function checkBank(bank: Bank, encodedLen: bigint, manifest: Manifest): void {
  const plain = plainLength(bank.dtype, bank.shape);
  require(plain !== null && plain !== 0n && plain === bank.plainLen, 507);
  require(applies(bank.codec, bank.dtype, bank.shape, bank.role), 903);
  require(encodedFits(bank.codec, bank.dtype, bank.shape, plain, encodedLen), 903);
  require((bank.shape.kind === "whole") === (bank.rows.kind === "none"), 507);
  if (bank.shape.kind === "tokens" && bank.rows.kind === "from") {
    const { start, end } = manifest.positions;
    const last = bank.rows.start + bank.shape.tokens;
    require(last <= MAX_U64, 507);
    if (bank.window === 0n) require(bank.rows.start >= start && last === end, 507);
    else require(last <= end, 507);
  }
  if (bank.shape.kind === "tokens" && bank.rows.kind === "listed") {
    const listed = manifest.streams[bank.rows.stream];
    require(listed?.kind === "section" && listed.section === SECTION.positions, 507);
    require(listed.plainLen === 8n * bank.shape.tokens, 507);
  }
  const turns = bank.role === ROLE.key || bank.role === ROLE.ropeKey;
  if (bank.rotation !== null) {
    require(bank.rotation < manifest.rotations.length && isLossyBank(bank) && turns, 507);
  } else {
    require(bank.codec.kind !== "q4c", 507);
  }
}

/** CAP-S-8, CAP-S-11, CAP-S-12, CAP-S-14, CAP-P-2, CAP-P-5. */
function checkSections(manifest: Manifest): void {
  require((manifest.profile !== null) === banksOf(manifest).some(({ codec }) => needsProfile(codec)), 507);
  for (const kind of [1, 2, 3, 4, 6, 8]) require(sectionsOf(manifest, kind).length <= 1, 505);
  const others = sectionsOf(manifest, SECTION.other).map((section) => section.name);
  require(new Set(others).size === others.length, 505);
  const [receipts] = sectionsOf(manifest, SECTION.receipts);
  const owed = banksOf(manifest).reduce((sum, b) => sum + (isLossyBank(b) ? 32n : 0n) + (b.asked ? 16n : 0n), 0n);
  require((receipts !== undefined) === owed > 0n && (receipts?.plainLen ?? 0n) === owed, 507);
  for (const section of sectionsOf(manifest, SECTION.positions)) require(section.plainLen % 8n === 0n, 507);
  const [prefix] = sectionsOf(manifest, SECTION.prefix);
  const [tokens] = sectionsOf(manifest, SECTION.tokens);
  if (manifest.prefix.scheme === 0) {
    require(prefix === undefined && tokens === undefined, 507);
  } else {
    require(prefix !== undefined && prefix.plainLen === 32n, 507);
    require(tokens === undefined || tokens.plainLen === 4n * manifest.prefix.count, 507);
  }
}

/** CAP-R-3, CAP-R-4. */
function checkRecipients(manifest: Manifest): void {
  const ids = new Set(manifest.recipients.map((recipient) => hex(recipient.keyId)));
  require(ids.size === manifest.recipients.length, 808);
  const has = (type: number): boolean => manifest.recipients.some((recipient) => recipient.type === type);
  require(!(has(2) && has(3)), 808);
}

/** LIN-L-1, LIN-L-3, LIN-L-4: what an increment states by itself. */
function checkIncrement(manifest: Manifest, claims: Claims): void {
  if (manifest.baseImage) require(claims.sub === null && claims.session === null, 507);
  if (manifest.parent === null) return;
  require(manifest.positions.start === manifest.parent.positions.end, 703);
  for (const bank of banksOf(manifest)) {
    if (byPosition(bank) && bank.rows.kind === "from") require(bank.rows.start === manifest.positions.start, 703);
  }
}
