// The KV capsule for Node: what index.d.ts names, over the native module. Here are refusals as exceptions, options as
// objects, progress, signals and streams, and nothing else.

import { Writable } from 'node:stream'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

const native = createRequire(import.meta.url)('./native.cjs')

/** How often a caller is told how far a call is, in milliseconds. */
const TELLING = 50

export class KvcapError extends Error {
  constructor(refused) {
    super(`${refused.refused} ${refused.name}: ${refused.text}`)
    this.name = 'KvcapError'
    this.code = refused.refused
    this.slug = refused.name
    this.where = refused.place ?? null
    this.expected = refused.expected ?? null
    this.found = refused.found ?? null
    this.public = refused.public
  }
}

/** A value, or the refusal as an exception. What is not there is null. */
function done(outcome) {
  if (outcome !== null && typeof outcome === 'object' && 'refused' in outcome) throw new KvcapError(outcome)
  return outcome
}

/** An object's missing members as null, so that each is there. */
function whole(names, value) {
  for (const name of names) value[name] ??= null
  return value
}

const judged = (verdict) => verdict && whole(['tenant', 'subject', 'session', 'body'], verdict)

/** A setting's values as texts, as flags write them. */
function texts(settings = {}) {
  const said = {}
  for (const [name, value] of Object.entries(settings)) {
    if (value === undefined || value === null) continue
    const setting = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
    said[setting] = (Array.isArray(value) ? value : [value]).map(String)
  }
  return said
}

const own = Symbol('native')
const nativeOf = (profile) => (profile ? profile[own] : null)
const pathOf = (to) => (to === undefined || to === null ? null : to instanceof URL ? fileURLToPath(to) : String(to))

function given(source) {
  if (typeof source === 'string') return source
  if (source instanceof URL) return fileURLToPath(source)
  if (source instanceof ArrayBuffer) return new Uint8Array(source)
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength)
  throw new TypeError('a capsule or a state is a path, or memory')
}

/** What an object of options asks of a capsule. */
function wanted({ acceptUnchecked, chain, session, dtypes } = {}) {
  const named = typeof session === 'string' ? { id: session } : session ?? {}
  return {
    acceptUnchecked,
    chain: chain?.map(String),
    session: named.id,
    sessionVersion: named.version,
    replayCursor: named.replayCursor,
    keyDtype: dtypes?.[0],
    valueDtype: dtypes?.[1],
  }
}

/** Runs a long call, telling `onProgress`, and ending it when `signal` says so. */
async function watched({ onProgress, signal } = {}, call) {
  signal?.throwIfAborted()
  const watch = new native.Watch()
  const end = () => watch.end()
  let raised = null
  const tell = () => {
    if (watch.all === 0) return
    try {
      onProgress(watch.done, watch.all)
    } catch (error) {
      raised ??= { error }
      watch.end()
    }
  }
  signal?.addEventListener('abort', end)
  const telling = onProgress && setInterval(tell, TELLING)
  try {
    const outcome = await call(watch)
    if (onProgress && !raised) tell()
    return done(outcome)
  } catch (error) {
    signal?.throwIfAborted()
    throw raised ? raised.error : error
  } finally {
    clearInterval(telling)
    signal?.removeEventListener('abort', end)
  }
}

export class Profile {
  constructor(settings = {}, { passphrase = null } = {}) {
    const made = new native.Made()
    done(native.profileNew(texts(settings), passphrase, made))
    this[own] = made.profile()
  }

  static #of(made) {
    const profile = Object.create(Profile.prototype)
    profile[own] = made.profile()
    return profile
  }

  static load(name = null, settings = {}, { passphrase = null } = {}) {
    const made = new native.Made()
    done(native.profileLoad(name, texts(settings), passphrase, made))
    return Profile.#of(made)
  }

  static async create(name = 'default', settings = {}, { issuer = null, passphrase = null } = {}) {
    const made = new native.Made()
    done(await native.profileCreate(name, issuer, texts(settings), passphrase, made))
    return Profile.#of(made)
  }

  get name() {
    return this[own].name
  }

  get settings() {
    return this[own].settings
  }
}

/** What is said of a state, with nothing that the native module does not know. */
function said(options) {
  const { profile, onProgress, signal, to, ...rest } = options
  return { ...rest, tokens: rest.tokens && Array.from(rest.tokens) }
}

export async function seal(state, options = {}) {
  const call = (watch) =>
    native.seal(given(state), pathOf(options.to), nativeOf(options.profile), said(options), watch)
  return whole(['capsule'], await watched(options, call))
}

export async function verify(source, options = {}) {
  const { profile, headerOnly = false } = options
  const call = (watch) => native.verify(given(source), nativeOf(profile), wanted(options), headerOnly, watch)
  return judged(await watched(options, call))
}

export async function open(source, options = {}) {
  const { to, replace = false, profile, tokens, layers, positions } = options
  const ids = tokens ? Array.from(tokens) : null
  const part = { layers, positions }
  const call = (watch) =>
    native.open(given(source), pathOf(to), replace, nativeOf(profile), wanted(options), ids, part, watch)
  const opened = whole(['state', 'tokens'], await watched(options, call))
  judged(opened.verdict)
  return opened
}

export async function inspect(source) {
  return whole(['tenant', 'subject', 'session', 'parent'], done(await native.inspect(given(source))))
}

export async function modelId(model, settings = {}) {
  return done(await native.modelId(pathOf(model), texts(settings)))
}

const key = (made) => whole(['public', 'issuer', 'publicPath'], made)

export async function newSigningKey(path, { issuer = null, passphrase = null } = {}) {
  return key(done(await native.newSigningKey(pathOf(path), issuer, passphrase)))
}

export async function newWrappingKey(path, { kind = 'symmetric', passphrase = null } = {}) {
  return key(done(await native.newWrappingKey(pathOf(path), kind, passphrase)))
}

export function readPublicKey(text) {
  return key(done(native.readPublicKey(text)))
}

export async function newRootKey(path, { passphrase = null } = {}) {
  return key(done(await native.newRootKey(pathOf(path), passphrase)))
}

export async function createRegistry(path, { rootKey, ttl, passphrase = null }) {
  return done(await native.createRegistry(pathOf(path), pathOf(rootKey), passphrase, ttl))
}

export async function changeRegistry(path, { rootKey, ttl = null, passphrase = null, add = [], ...rest }) {
  const named = (what) => (what instanceof URL || typeof what === 'string' ? { key: what } : what)
  const changes = add.map(named).map(({ key, issuer }) => ({ kind: 'add', what: pathOf(key), issuer }))
  for (const kind of ['retire', 'compromise', 'revoke']) {
    changes.push(...(rest[kind] ?? []).map((what) => ({ kind, what: pathOf(what) })))
  }
  return done(await native.changeRegistry(pathOf(path), pathOf(rootKey), passphrase, changes, ttl))
}

export class Verifying {
  #native = new native.Verifying()
  #last

  constructor(options = {}) {
    this.#last = this.#native.begin(nativeOf(options.profile), wanted(options)).then(done)
    this.#last.catch(() => {}) // the next call says it
  }

  /** One call after the other, whoever waits for which. */
  #next(call) {
    this.#last = this.#last.then(() => call()).then(done)
    return this.#last.then(judged)
  }

  feed(piece) {
    const bytes = given(piece).slice()
    return this.#next(() => this.#native.feed(bytes))
  }

  finish() {
    return this.#next(() => this.#native.finish())
  }
}

export class VerifyStream extends Writable {
  #verifying
  verdict = null

  constructor(options = {}) {
    super()
    this.#verifying = new Verifying(options)
  }

  _write(piece, encoding, next) {
    this.#verifying.feed(piece).then((header) => {
      if (header && !this.verdict) this.emit('header', header)
      this.verdict ??= header
      next()
    }, next)
  }

  _final(next) {
    this.#verifying.finish().then((verdict) => {
      this.verdict = verdict
      next()
    }, next)
  }
}

const checkpoint = (made) => whole(['capsule'], made)

export class SessionManager {
  #native = new native.SessionManager()

  constructor({ profile, folder } = {}) {
    done(this.#native.begin(nativeOf(profile), pathOf(folder)))
  }

  async loadOrCreate(id, { user = null } = {}) {
    const session = new native.Session()
    done(await this.#native.loadOrCreate(id, user, session))
    return new Session(session)
  }

  async sessions({ user = null } = {}) {
    return done(await this.#native.sessions(user))
  }
}

export class Session {
  #native

  constructor(session) {
    if (!(session instanceof native.Session)) throw new TypeError('a session comes from loadOrCreate')
    this.#native = session
  }

  get id() {
    return this.#native.id
  }

  async current() {
    return checkpoint(done(await this.#native.current()))
  }

  async versions() {
    return done(await this.#native.versions())
  }

  async events() {
    return done(await this.#native.events())
  }

  async append(kind, text) {
    return done(await this.#native.append(kind, text))
  }

  async save(state = null, options = {}) {
    const call = (watch) => this.#native.save(state === null ? null : given(state), said(options), watch)
    return checkpoint(await watched(options, call))
  }

  async revertToTurn(turn) {
    return checkpoint(done(await this.#native.revertToTurn(turn)))
  }

  async resume({ tokens = null, reserve = 0 } = {}) {
    const ids = tokens && Array.from(tokens)
    return whole(['code', 'state', 'eventsAfter'], done(await this.#native.resume(ids, reserve)))
  }
}
