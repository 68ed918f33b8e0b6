// Members of an object, each of its type: what differs is KVC-950 (SES-J-3).

import { text } from "../bytes.js";
import { refuse, require } from "../refusal.js";
import { isMembers, type Members, type Value } from "./value.js";

/** An object with these members and no other. */
export function exactly(value: Value | undefined, required: readonly string[], optional: readonly string[] = []): Members {
  const found = isMembers(value) ? value : refuse(950);
  const names = Object.keys(found);
  require(required.every((name) => names.includes(name)), 950);
  require(names.every((name) => required.includes(name) || optional.includes(name)), 950);
  return found;
}

export function textOf(value: Value | undefined): string {
  return typeof value === "string" ? value : refuse(950);
}

export function flagOf(value: Value | undefined): boolean {
  return typeof value === "boolean" ? value : refuse(950);
}

export function countOf(value: Value | undefined, least = 0): number {
  return typeof value === "number" && value >= least ? value : refuse(950);
}

export function listOf<T>(value: Value | undefined, each: (entry: Value) => T): T[] {
  return Array.isArray(value) ? value.map(each) : refuse(950);
}

/** Lower-case hexadecimal digits (SES-J-4). */
export function digits(value: Value | undefined, length = 64): string {
  const found = textOf(value);
  require(found.length === length && /^[0-9a-f]*$/.test(found), 950);
  return found;
}

/** A session's id, tenant or subject: a claim of CAP-E-9. */
export function nameOf(value: Value | undefined): string {
  const found = textOf(value);
  const length = text(found).length;
  require(length >= 1 && length <= 1024 && !/[\u0000-\u001f\u007f-\u009f]/.test(found), 950);
  return found;
}
