/**
 * Signed, encrypted, compressed capsules of a language model's KV cache.
 *
 * Calls take a path or memory and run in a thread of Node's pool. Memory must not change, nor be transferred, until the
 * call is over. What is refused is thrown as a KvcapError.
 */

import { Writable } from 'node:stream'

/** A capsule or a state. */
export type Source = string | URL | ArrayBuffer | NodeJS.ArrayBufferView

/** Settings of docs/reference/config.md in camel case. */
export interface Settings {
  signKey?: string
  wrapKey?: string
  openKey?: string | string[]
  recipient?: string | string[]
  trust?: string | string[]
  registry?: string | string[]
  registryRoot?: string | string[]
  ledger?: string
  issuer?: string
  audience?: string
  tenant?: string
  subject?: string
  ttl?: string
  encoding?: string
  model?: string
  adapter?: string | string[]
  runtime?: string
  runtimeVersion?: string
  runtimeOpt?: string | string[]
  contextSize?: number
  /** What a capsule may be used for. */
  scope?: string
  /** Longest life that is accepted, in seconds. */
  maxLifetime?: number
  /** Bytes of memory that opening may take. */
  budget?: number
  /** Time to judge by, in seconds since 1970; now where it is not set. */
  at?: number
}

/** A refusal: `code` never changes its meaning (spec/errors.md). */
export class KvcapError extends Error {
  private constructor()
  /** `KVC-` and the number. */
  readonly code: `KVC-${number}`
  /** The code's name, such as `time.expired`. */
  readonly slug: string
  readonly where: string | null
  readonly expected: string | null
  readonly found: string | null
  /** All that a stranger may hear. */
  readonly public: string
}

/** Whom to trust, whose keys, which model, for whom and how long. */
export class Profile {
  /** Settings, and nothing that is set elsewhere. */
  constructor(settings?: Settings, options?: { passphrase?: string })
  /** The user's configuration and the KVCAP_* variables, as the program has them. */
  static load(name?: string | null, settings?: Settings, options?: { passphrase?: string }): Profile
  /** Makes a profile with keys of its own in the user's configuration, as `kvcap init` does. */
  static create(
    name?: string,
    settings?: Settings,
    options?: { issuer?: string; passphrase?: string },
  ): Promise<Profile>
  readonly name: string | null
  /** All that is set: paths and public keys, no secret. */
  readonly settings: Record<string, string[]>
}

/** How a long call is watched. */
export interface Watching {
  /** Told bytes done and bytes in all, 20 times a second at most and at the end; what it throws ends the call. */
  onProgress?: (done: number, all: number) => void
  /** Ends the call: nothing appears. */
  signal?: AbortSignal
}

export interface SessionClaims {
  id: string
  version: number
  replayCursor: number
}

/** On what terms a capsule is judged. */
export interface Terms {
  /** The user's own where there is none. */
  profile?: Profile
  /** Names of checks that may be left out. */
  acceptUnchecked?: string[]
  /** Paths of ancestors. */
  chain?: string[]
  /** The session that it must be of, or that with version and cursor. */
  session?: string | { id: string; version?: number; replayCursor?: number }
  /** Element types of keys and values. */
  dtypes?: [string, string]
}

export interface Verdict {
  id: string
  key: string
  issuer: string
  audience: string
  tenant: string | null
  subject: string | null
  expires: number
  judgedAt: number
  modelId: string
  modelName: string
  runtime: string
  runtimeVersion: string
  /** First position and the one after the last, with the ancestors'. */
  positions: [number, number]
  chain: string[]
  session: SessionClaims | null
  /** Names of the checks that were left out. */
  unchecked: string[]
  /** Those of them that the caller has not accepted by name. */
  unaccepted: string[]
  /** Chunks and bytes of the body that were checked. */
  body: [number, number] | null
}

/** What a capsule says of itself: UNVERIFIED, nobody has vouched for any of it. */
export interface Claims {
  id: string
  key: string
  issuer: string
  audience: string
  tenant: string | null
  subject: string | null
  scope: string
  issuedAt: number
  expires: number
  renewUntil: number
  singleUse: boolean
  session: SessionClaims | null
  modelId: string
  modelName: string
  runtime: string
  runtimeVersion: string
  format: string
  positions: [number, number]
  promptTokens: number
  prompt: string
  layers: number
  recipients: { id: string; kind: string }[]
  parent: string | null
  length: number
}

/** What is said of a state beside what it says itself. */
export interface SealOptions extends Watching {
  profile?: Profile
  /** A file, which appears whole or not at all; in memory without it. */
  to?: string | URL
  replace?: boolean
  tokens?: Iterable<number>
  dangerNoPrefix?: boolean
  runtime?: string
  runtimeVersion?: string
  compress?: boolean
  history?: Uint8Array
  agentState?: Uint8Array
  session?: SessionClaims
  sequence?: number
  singleUse?: boolean
  parent?: string
  chain?: string[]
}

export interface Sealed {
  id: string
  /** The capsule; null where it went to a file. */
  capsule: Buffer | null
  length: number
  stateLength: number
  positions: [number, number]
  expires: number
  notes: string[]
}

export interface OpenOptions extends Terms, Watching {
  /** A file, which appears whole or not at all; in memory without it. */
  to?: string | URL
  replace?: boolean
  /** Ids of the prompt's tokens. */
  tokens?: Iterable<number>
  /** From a layer to before another, as safetensors. */
  layers?: [number, number]
  positions?: [number, number]
}

export interface Opened {
  verdict: Verdict
  /** The state, or the part that was asked for; null where it went to a file. */
  state: Buffer | null
  length: number
  /** Token ids that were sealed beside the state. */
  tokens: number[] | null
}

export interface Model {
  id: string
  weights: string
  config: string
  name: string
  vocabulary: string
}

/** Public half of a key. The secret stays in its file. */
export interface Key {
  id: string
  public: string | null
  issuer: string | null
  publicPath: string | null
}

/** A version of a registry: which keys may seal, and which capsules are revoked. */
export interface Registry {
  version: number
  root: string
  issuedAt: number
  expires: number
  /** Ids of the keys that it lists. */
  keys: string[]
  /** Ids of the capsules that it revokes. */
  revoked: string[]
}

/** Changes to a registry: all of them or none. A key is its id, a file of a public key, or its text. */
export interface Changes {
  /** The secret root key's file. */
  rootKey: string | URL
  passphrase?: string
  /** Seconds that the next version is valid; as long as the one before without it. */
  ttl?: number
  /** Lists keys, each for the issuer that its file names, or for another. */
  add?: (string | URL | { key: string | URL; issuer?: string })[]
  /** Ends a key's signing now; what it signed before stays good. */
  retire?: (string | URL)[]
  /** Voids everything that a key has ever signed. */
  compromise?: (string | URL)[]
  /** Revokes capsules: files, which a key of the registry has signed, or ids, which nobody verifies. */
  revoke?: (string | URL)[]
}

/** Seals a runtime's saved state. */
export function seal(state: Source, options?: SealOptions): Promise<Sealed>
/** Verifies a capsule with public keys alone. */
export function verify(source: Source, options?: Terms & Watching & { headerOnly?: boolean }): Promise<Verdict>
/** Verifies a capsule and opens it. */
export function open(source: Source, options?: OpenOptions): Promise<Opened>
/** Reads what a capsule says of itself: its header alone, no key. */
export function inspect(source: Source): Promise<Claims>
/** Reads a model's identity: a folder, a GGUF file or a .kvid file. */
export function modelId(model: string | URL, settings?: Settings): Promise<Model>
/** Makes a signing key in a file, and its public key beside it. */
export function newSigningKey(path: string | URL, options?: { issuer?: string; passphrase?: string }): Promise<Key>
/** Makes a wrapping key in a file. */
export function newWrappingKey(
  path: string | URL,
  options?: { kind?: 'symmetric' | 'x25519' | 'x-wing'; passphrase?: string },
): Promise<Key>
/** Reads a public signing key: a file, or the key's text. */
export function readPublicKey(text: string): Key
/** Makes a root key in a file, and its public key beside it. */
export function newRootKey(path: string | URL, options?: { passphrase?: string }): Promise<Key>
/** Makes version 1 of a registry, which lists nothing and is valid for `ttl` seconds. */
export function createRegistry(
  path: string | URL,
  options: { rootKey: string | URL; ttl: number; passphrase?: string },
): Promise<Registry>
/** Writes a registry's next version; without a change it only lives longer. */
export function changeRegistry(path: string | URL, changes: Changes): Promise<Registry>

/** A capsule verified as its bytes come. Calls may be made before the last one is over; they run in turn. */
export class Verifying {
  constructor(options?: Terms)
  /** Takes the next bytes, a copy of them, and gives the header's verdict once it is judged. */
  feed(piece: Source): Promise<Verdict | null>
  finish(): Promise<Verdict>
}

/** A stream that takes a capsule and verifies it. `finish` comes when it is accepted, `error` with the refusal. */
export class VerifyStream extends Writable {
  constructor(options?: Terms)
  /** The header's verdict once it is judged (event `header`), and in the end the whole one. */
  readonly verdict: Verdict | null
}

export interface Checkpoint {
  version: number
  at: number
  replayCursor: number
  turns: number
  messages: number
  capsule: string | null
  tokenCount: number
}

export interface Resumed {
  rung: 'exact' | 'shorter' | 'history-only' | 'fresh'
  sentence: string
  code: `KVC-${number}` | null
  state: Buffer | null
  tokenCount: number
  eventsAfter: number | null
}

/** Sessions of a profile's tenant, one subject or many. */
export class SessionManager {
  constructor(options?: { profile?: Profile; folder?: string | URL })
  loadOrCreate(id: string, options?: { user?: string }): Promise<Session>
  sessions(options?: { user?: string }): Promise<string[]>
}

/** A session: an append-only log, and checkpoints with states. */
export class Session {
  private constructor()
  readonly id: string
  current(): Promise<Checkpoint>
  versions(): Promise<number[]>
  events(): Promise<{ seq: number; kind: string; text: string }[]>
  append(kind: 'user' | 'assistant' | 'tool' | 'milestone' | 'note', text: string): Promise<number>
  save(
    state?: Source | null,
    options?: Watching & { tokens?: Iterable<number>; runtime?: string; runtimeVersion?: string },
  ): Promise<Checkpoint>
  revertToTurn(turn: number): Promise<Checkpoint>
  resume(options?: { tokens?: Iterable<number> | null; reserve?: number }): Promise<Resumed>
}
