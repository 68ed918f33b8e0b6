// What index.d.ts promises, as a caller writes it; tsc checks it, nobody runs it.
import * as kvcap from 'kvcap'
import { createReadStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'

export async function all(state: Buffer): Promise<number> {
  const profile = new kvcap.Profile({ trust: ['a', 'b'], ttl: '1h', at: 5 }, { passphrase: 'x' })
  const sealed = await kvcap.seal(state, { profile, tokens: new Uint32Array([1]), signal: AbortSignal.timeout(1) })
  const verdict = await kvcap.verify(sealed.capsule ?? 'a.kvcap', { profile, session: { id: 'x', version: 1 } })
  const opened = await kvcap.open(new URL('file:///a'), { profile, layers: [0, 1], onProgress: (done, all) => done / all })
  const stream = new kvcap.VerifyStream({ profile })
  await pipeline(createReadStream('a.kvcap'), stream)
  const session = await new kvcap.SessionManager({ profile }).loadOrCreate('x', { user: 'ana' })
  const resumed = await session.resume({ tokens: [1, 2] })
  if (resumed.rung === 'exact' && resumed.state) return resumed.state.length
  const registry = await kvcap.changeRegistry(new URL('file:///a'), { rootKey: 'r', add: ['a', { key: 'b', issuer: 'c' }], revoke: ['d'] })
  if (registry.keys.length === 0) return registry.expires
  try {
    await kvcap.inspect(state)
  } catch (error) {
    if (error instanceof kvcap.KvcapError && error.code === 'KVC-402') return verdict.expires
  }
  // @ts-expect-error a setting that is not known
  new kvcap.Profile({ noSuchSetting: '1' })
  // @ts-expect-error a result is not a text
  const wrong: string = opened.length
  return wrong.length
}
