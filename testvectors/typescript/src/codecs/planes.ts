// Lossless byte-plane compression (codecs-v1 §5).

import { concat } from "../bytes.js";
import { require } from "../refusal.js";
import { inflate } from "./zstd.js";

export function decodePlanes(width: 2 | 4, plainLen: number, frame: Uint8Array): Uint8Array {
  require(frame.length > 0, 902);
  const n = plainLen / width;
  if (frame[0] === 0) {
    require(frame.length === 1 + plainLen, 903);
    return frame.subarray(1);
  }
  require(frame[0] === 1, 902);
  require(frame.length <= plainLen, 904);
  const low = 1 + (width - 1) * n;
  require(frame.length >= low, 902);
  return join(width, n, concat(frame.subarray(1, low), inflate(frame.subarray(low), n)));
}

/** Turns planes back into elements, each rotated right by one bit (§5.2). */
function join(width: 2 | 4, n: number, planes: Uint8Array): Uint8Array {
  const out = new Uint8Array(width * n);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < width; k++) {
      const own = planes[k * n + i] ?? 0;
      const above = planes[((k + 1) % width) * n + i] ?? 0;
      out[i * width + k] = (own >> 1) | ((above & 1) << 7);
    }
  }
  return out;
}
