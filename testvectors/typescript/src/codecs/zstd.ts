// The profile of zstd (codecs-v1 §5.3): the frame is checked before fzstd sees it.

import { Decompress } from "fzstd";
import { view } from "../bytes.js";
import { refuse, require } from "../refusal.js";

const MAGIC = 0xfd2fb528;
const MAX_WINDOW = 8 << 20;
const MAX_BLOCK = 128 << 10;

/** The `n` bytes that one frame holds. */
export function inflate(frame: Uint8Array, n: number): Uint8Array {
  checkBlocks(frame, n, readHeader(frame, n));
  const out = new Uint8Array(n);
  let filled = 0;
  try {
    new Decompress((part) => {
      if (filled + part.length <= n) out.set(part, filled);
      filled += part.length;
    }).push(frame, true);
  } catch {
    refuse(902);
  }
  require(filled <= n, 904);
  require(filled === n, 902);
  return out;
}

interface FrameHeader {
  blocksAt: number;
  largestBlock: number;
}

/** COD-P-2 … COD-P-5. */
function readHeader(frame: Uint8Array, n: number): FrameHeader {
  const bytes = view(frame);
  require(frame.length >= 4 && bytes.getUint32(0, true) === MAGIC, 902);
  require(frame.length >= 5, 902);
  const descriptor = bytes.getUint8(4);
  require((descriptor & 0b1111) === 0, 902);
  const single = (descriptor & 0b10_0000) !== 0;
  let at = 5;
  let window: number | null = null;
  if (!single) {
    require(frame.length > at, 902);
    const byte = bytes.getUint8(at);
    const base = 2 ** (10 + (byte >> 3));
    window = base + (base / 8) * (byte & 7);
    require(window <= MAX_WINDOW, 904);
    at += 1;
  }
  const sizeFlag = descriptor >> 6;
  require(single || sizeFlag !== 0, 902);
  const width = [1, 2, 4, 8][sizeFlag] ?? 1;
  require(frame.length >= at + width, 902);
  let size = 0n;
  for (let i = width - 1; i >= 0; i--) size = (size << 8n) | BigInt(bytes.getUint8(at + i));
  if (width === 2) size += 256n;
  require(size === BigInt(n), 903);
  return { blocksAt: at + width, largestBlock: Math.min(window ?? n, MAX_BLOCK) };
}

/** COD-P-6, COD-P-7. */
function checkBlocks(frame: Uint8Array, n: number, { blocksAt, largestBlock }: FrameHeader): void {
  const bytes = view(frame);
  let at = blocksAt;
  let plain = 0;
  for (let last = false; !last; ) {
    require(frame.length >= at + 3, 902);
    const head = bytes.getUint16(at, true) | (bytes.getUint8(at + 2) << 16);
    last = (head & 1) !== 0;
    const type = (head >> 1) & 3;
    const size = head >> 3;
    require(type !== 3, 902);
    at += 3 + (type === 1 ? 1 : size);
    require(frame.length >= at, 902);
    require(size <= largestBlock, 904);
    if (type !== 2) plain += size;
    require(plain <= n, 904);
  }
  require(at === frame.length, 902);
}
