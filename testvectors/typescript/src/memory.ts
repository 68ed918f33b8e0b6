// What a verifier remembers (registry-v1 §5): its clock, uses and sessions.

import { b3 } from "./hashes.js";
import { concat, hex, text, u32 } from "./bytes.js";
import type { Claims } from "./envelope.js";
import { require } from "./refusal.js";

const SKEW = 60n;
const DAY = 86_400n;

export class Memory {
  private readonly uses = new Set<string>();
  private readonly sessions = new Map<string, bigint>();
  /** A time later by more than a day, until a header has passed by it. */
  private leap: bigint | null = null;

  constructor(private latest: bigint | null) {}

  /** REG-U-1: the later of the clock and the latest time seen. */
  time(clock: bigint): bigint {
    if (this.latest === null || clock > this.latest + DAY) {
      this.leap = clock;
      return clock;
    }
    require(clock + SKEW >= this.latest, 412);
    if (clock > this.latest) this.latest = clock;
    return this.latest;
  }

  headerHasPassed(): void {
    if (this.leap !== null) this.latest = this.leap;
    this.leap = null;
  }

  /** REG-U-3, REG-U-5: what is used up. */
  check(claims: Claims, ctx: Uint8Array): void {
    require(!claims.singleUse || !this.uses.has(use(ctx)), 410);
    const highest = this.sessions.get(session(claims));
    require(claims.seq === null || highest === undefined || claims.seq >= highest, 411);
  }

  /** REG-U-4: remembered before the first byte of plaintext. */
  remember(claims: Claims, ctx: Uint8Array): void {
    this.check(claims, ctx);
    if (claims.singleUse) this.uses.add(use(ctx));
    if (claims.seq !== null) this.sessions.set(session(claims), claims.seq);
  }
}

const use = (ctx: Uint8Array): string => hex(b3("kvcap v1 use", ctx));

function session(claims: Claims): string {
  const opt = (name: string | null): Uint8Array => {
    if (name === null) return new Uint8Array([0]);
    const bytes = text(name);
    return concat(new Uint8Array([1]), u32(bytes.length), bytes);
  };
  const names = [claims.iss, claims.org, claims.sub, claims.session?.id ?? null];
  return hex(b3("kvcap v1 session", concat(...names.map(opt))));
}
