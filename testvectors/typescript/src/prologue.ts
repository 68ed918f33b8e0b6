// The file (capsule-v1 §2).

import { isZero, view } from "./bytes.js";
import { type Limits, MAX_U64 } from "./limits.js";
import { refuse, require } from "./refusal.js";

const MAGIC = [0x89, 0x4b, 0x56, 0x43, 0x0d, 0x0a, 0x1a, 0x0a];
const PROLOGUE = 64;
export const ROW = 48;

export interface Prologue {
  envelopeLen: number;
  tablesAt: number;
  tablesLen: number;
  bodyAt: number;
  bodyLen: bigint;
}

function align(x: bigint): bigint {
  return ((x + 4095n) / 4096n) * 4096n;
}

/** CAP-F-1 … CAP-F-3. */
export function readPrologue(file: Uint8Array, limits: Limits): Prologue {
  require(file.length >= PROLOGUE, 101);
  const fields = view(file);
  if (!MAGIC.every((byte, i) => file[i] === byte)) refuse(102);
  require(fields.getUint16(8, true) === 1, 103);
  require(isZero(file.subarray(10, 12)) && isZero(file.subarray(32, PROLOGUE)), 104);
  const envelopeLen = fields.getUint32(12, true);
  const tablesLen = fields.getBigUint64(16, true);
  const bodyLen = fields.getBigUint64(24, true);
  require(envelopeLen >= 1 && envelopeLen <= limits.envelope, 105);
  require(tablesLen % BigInt(ROW) === 0n && tablesLen <= limits.tables, 105);
  const tablesAt = align(BigInt(PROLOGUE + envelopeLen));
  const bodyAt = align(tablesAt + tablesLen);
  require(bodyAt + bodyLen <= MAX_U64, 105);
  return { envelopeLen, tablesAt: Number(tablesAt), tablesLen: Number(tablesLen), bodyAt: Number(bodyAt), bodyLen };
}

/** The envelope's bytes, with the zeros behind them (CAP-F-4, CAP-F-5). */
export function envelopeBytes(file: Uint8Array, prologue: Prologue): Uint8Array {
  require(file.length >= prologue.tablesAt, 106);
  const end = PROLOGUE + prologue.envelopeLen;
  require(isZero(file.subarray(end, prologue.tablesAt)), 107);
  return file.subarray(PROLOGUE, end);
}
