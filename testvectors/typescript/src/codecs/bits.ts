// Codes of 3 to 8 bits in one little-endian bit stream a row (codecs-v1 §6.1).

export function readCode(bytes: Uint8Array, rowAt: number, index: number, bits: number): number {
  const bit = index * bits;
  const at = rowAt + (bit >> 3);
  return (((bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)) >> (bit & 7)) & ((1 << bits) - 1);
}

/** Sets a code of a row that is zero there. */
export function writeCode(bytes: Uint8Array, rowAt: number, index: number, bits: number, code: number): void {
  const bit = index * bits;
  const at = rowAt + (bit >> 3);
  const shifted = code << (bit & 7);
  bytes[at] = (bytes[at] ?? 0) | (shifted & 255);
  if (shifted > 255) bytes[at + 1] = (bytes[at + 1] ?? 0) | (shifted >> 8);
}
