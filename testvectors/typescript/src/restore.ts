// From the encoded streams of an opened capsule to the plain bytes of its banks (capsule-v1 §3.3 step 28).

import { view } from "./bytes.js";
import { type BankLayout, decodeBank } from "./codecs/bank.js";
import { checkReceipt } from "./codecs/receipt.js";
import { Turns } from "./codecs/rotation.js";
import { banksOf } from "./consistent.js";
import type { Manifest } from "./manifest.js";
import { type Bank, isLossyBank, SECTION } from "./stream.js";

/** The plain bytes of each bank, and null for each section; COD-Q-1 is judged before any of them. */
export function* restore(manifest: Manifest, streams: readonly Uint8Array[]): Generator<Uint8Array | null> {
  checkReceipts(manifest, streams);
  for (const [i, stream] of manifest.streams.entries()) {
    yield stream.kind === "section" ? null : decodeBank(layoutOf(stream, manifest, streams), streams[i] ?? new Uint8Array(0));
  }
}

function layoutOf(bank: Bank, manifest: Manifest, streams: readonly Uint8Array[]): BankLayout {
  const { dtype, shape, codec } = bank;
  return { dtype, shape, codec, plainLen: Number(bank.plainLen), turns: turnsOf(bank, manifest, streams), fitted: null };
}

function turnsOf(bank: Bank, manifest: Manifest, streams: readonly Uint8Array[]): Turns | null {
  const table = bank.rotation === null ? undefined : manifest.rotations[bank.rotation];
  if (table === undefined || bank.shape.kind === "whole") return null;
  const from = view(table.frequencies);
  const frequencies = Array.from({ length: table.frequencies.length / 8 }, (_, i) => from.getFloat64(8 * i, true));
  return new Turns(table.pairing, frequencies, positionsOf(bank, streams), Number(bank.shape.tokens));
}

function positionsOf(bank: Bank, streams: readonly Uint8Array[]): (row: number) => bigint | null {
  const { rows } = bank;
  if (rows.kind === "from") return (row) => rows.start + BigInt(row);
  const listed = rows.kind === "listed" ? view(streams[rows.stream] ?? new Uint8Array(0)) : null;
  return (row) => (listed !== null && 8 * row < listed.byteLength ? listed.getBigInt64(8 * row, true) : null);
}

/** The section `receipts` (codecs-v1 §10.4). */
function checkReceipts(manifest: Manifest, streams: readonly Uint8Array[]): void {
  const index = manifest.streams.findIndex((stream) => stream.kind === "section" && stream.section === SECTION.receipts);
  const section = streams[index];
  if (section === undefined) return;
  let at = 0;
  for (const bank of banksOf(manifest)) {
    const [lossy, asked] = [isLossyBank(bank), bank.asked !== null];
    const length = (lossy ? 32 : 0) + (asked ? 16 : 0);
    checkReceipt(section.subarray(at, at + length), lossy, asked);
    at += length;
  }
}
