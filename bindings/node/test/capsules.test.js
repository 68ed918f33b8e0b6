import assert from 'node:assert/strict'
import { existsSync, readFileSync, statSync, createReadStream } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import test from 'node:test'

import * as kvcap from '../index.js'
import { FIXTURES, place } from './setup.js'

const STATES = ['hf_f16.safetensors', 'mlx031_q8.safetensors', 'llama_ggsq3_f16_fa.bin', 'llama_ggsq3_q4_0.bin', 'llama_ggsn10_q8_0.bin']
const refused = (code) => (error) => {
  assert(error instanceof kvcap.KvcapError, String(error))
  assert.equal(error.code, code)
  assert(error.message.startsWith(`${code} ${error.slug}: `))
  return true
}

for (const name of STATES) {
  test(`a state comes back byte for byte from file and memory: ${name}`, async (t) => {
    const { profile, file } = await place(t)
    const path = join(FIXTURES, name)
    const content = readFileSync(path)
    const made = await kvcap.seal(path, { to: file('a.kvcap'), profile, dangerNoPrefix: true })
    assert.equal(made.capsule, null)
    assert.equal(made.length, statSync(file('a.kvcap')).size)
    const { capsule } = await kvcap.seal(content, { profile, dangerNoPrefix: true })
    assert.equal(capsule.length, made.length)
    const lent = capsule.buffer.slice(capsule.byteOffset, capsule.byteOffset + capsule.length)
    for (const source of [file('a.kvcap'), capsule, lent]) {
      const opened = await kvcap.open(source, { profile })
      assert(content.equals(opened.state))
      assert.equal(opened.length, content.length)
    }
    const to = await kvcap.open(capsule, { profile, to: file('restored') })
    assert.equal(to.state, null)
    assert(content.equals(readFileSync(file('restored'))))
    assert.equal(statSync(file('restored')).mode & 0o777, 0o600)
  })
}

test('a verdict says who vouched for what and what was not checked', async (t) => {
  const { profile, state } = await place(t)
  const made = await kvcap.seal(state, { profile, dangerNoPrefix: true })
  const verdict = await kvcap.verify(made.capsule, { profile })
  assert.deepEqual([verdict.id, verdict.issuer, verdict.audience], [made.id, 'prefill.example.com', 'local'])
  assert.deepEqual(verdict.positions, made.positions)
  assert.equal(verdict.modelId, (await kvcap.modelId(join(FIXTURES, 'model'))).id)
  assert(verdict.unchecked.includes('prompt') && !verdict.unchecked.includes('body'))
  assert.equal(verdict.tenant, null)
  const header = await kvcap.verify(made.capsule, { profile, headerOnly: true })
  assert.equal(header.body, null)
  const quiet = await kvcap.verify(made.capsule, { profile, acceptUnchecked: verdict.unchecked })
  assert.deepEqual(quiet.unaccepted, [])
  const claims = await kvcap.inspect(made.capsule)
  assert.deepEqual([claims.id, claims.length, claims.expires], [made.id, made.length, made.expires])
  assert.equal(claims.recipients[0].kind, 'wrap')
})

test('a refusal carries its code and what a stranger may hear', async (t) => {
  const { profile, settings, state, file } = await place(t)
  const { capsule } = await kvcap.seal(state, { profile, dangerNoPrefix: true })
  const elsewhere = new kvcap.Profile({ ...settings, audience: 'elsewhere' })
  await assert.rejects(kvcap.verify(capsule, { profile: elsewhere }), (error) => {
    assert.deepEqual([error.code, error.found], ['KVC-405', 'local'])
    assert(!error.public.includes('local'))
    return true
  })
  capsule[capsule.length - 1] ^= 1
  await assert.rejects(kvcap.verify(capsule, { profile }), refused('KVC-805'))
  await assert.rejects(kvcap.open(file('missing'), { profile }), refused('KVC-940'))
  await assert.rejects(kvcap.newSigningKey(file('issuer.key')), refused('KVC-941'))
  assert.throws(() => kvcap.readPublicKey('no key'), kvcap.KvcapError)
  assert.throws(() => new kvcap.Profile({ noSuchSetting: '1' }), refused('KVC-944'))
  assert.throws(() => new kvcap.Profile({ ttl: ['1h', '2h'] }), refused('KVC-944'))
  await assert.rejects(kvcap.inspect(17), TypeError)
})

test('layers and positions are opened alone, and tokens bind', async (t) => {
  const { profile, state, file } = await place(t)
  const { positions } = await kvcap.seal(state, { profile, dangerNoPrefix: true })
  const tokens = Array.from({ length: positions[1] }, (_, at) => at + 5)
  await kvcap.seal(state, { to: file('a.kvcap'), profile, tokens, history: Buffer.from('hello') })
  const whole = await kvcap.open(file('a.kvcap'), { profile, tokens })
  assert.deepEqual(whole.tokens, tokens)
  const layer = await kvcap.open(file('a.kvcap'), { profile, layers: [0, 1] })
  const rows = await kvcap.open(file('a.kvcap'), { profile, layers: [0, 1], positions: [0, 2] })
  assert(whole.length > layer.length && layer.length > rows.length)
  assert(layer.state.includes('layer.0.key'))
  await assert.rejects(kvcap.open(file('a.kvcap'), { profile, layers: [0, 4000] }), refused('KVC-810'))
  await assert.rejects(kvcap.open(file('a.kvcap'), { profile, tokens: [1, ...tokens.slice(1)] }), refused('KVC-605'))
  await assert.rejects(kvcap.seal(state, { to: file('a.kvcap'), profile, tokens }), refused('KVC-941'))
})

test('a capsule is verified as its bytes come', async (t) => {
  const { profile, state, file } = await place(t)
  const made = await kvcap.seal(state, { profile, dangerNoPrefix: true, to: file('a.kvcap') })
  const capsule = readFileSync(file('a.kvcap'))
  const verifying = new kvcap.Verifying({ profile })
  // none is waited for before the next
  const fed = []
  for (let at = 0; at < capsule.length; at += 999) fed.push(verifying.feed(capsule.subarray(at, at + 999)))
  const verdict = await verifying.finish()
  assert.equal(verdict.id, made.id)
  assert((await Promise.all(fed)).at(-1).body === null)
  await assert.rejects(verifying.finish(), refused('KVC-944'))

  const stream = new kvcap.VerifyStream({ profile })
  let header = null
  stream.on('header', (said) => (header = said))
  await pipeline(createReadStream(file('a.kvcap'), { highWaterMark: 4096 }), stream)
  assert.equal(stream.verdict.id, made.id)
  assert.equal(header.id, made.id)
  const short = new kvcap.VerifyStream({ profile })
  await assert.rejects(pipeline([capsule.subarray(0, -1)], short), refused('KVC-807'))
})

test('the event loop goes on while a call runs', async (t) => {
  const { profile, state } = await place(t)
  let turns = 0
  const turning = setInterval(() => turns++, 0)
  const many = Array.from({ length: 24 }, () => kvcap.seal(state, { profile, dangerNoPrefix: true }))
  // a turn of the loop is seen before all calls are over
  const first = await Promise.race([Promise.all(many).then(() => 'calls'), new Promise((done) => setImmediate(done, 'loop'))])
  await Promise.all(many)
  clearInterval(turning)
  assert.equal(first, 'loop')
  assert(turns > 0)
})

test('progress is told, and a signal or what is thrown ends the call', async (t) => {
  const { profile, state, file } = await place(t)
  const heard = []
  const options = { profile, dangerNoPrefix: true }
  await kvcap.seal(state, { ...options, onProgress: (done, all) => heard.push([done, all]) })
  assert(heard.length > 0)
  assert.equal(heard.at(-1)[0], heard.at(-1)[1])
  const signal = AbortSignal.abort(new Error('enough'))
  await assert.rejects(kvcap.seal(state, { ...options, to: file('b.kvcap'), signal }), /enough/)
  const ending = new AbortController()
  const call = kvcap.seal(state, { ...options, to: file('b.kvcap'), signal: ending.signal })
  ending.abort(new Error('enough'))
  await assert.rejects(call, /enough/)
  assert(!existsSync(file('b.kvcap')))
})

test('sessions are saved, resumed and reverted', async (t) => {
  const { profile, file } = await place(t)
  const manager = new kvcap.SessionManager({ profile, folder: file('sessions') })
  const session = await manager.loadOrCreate('0123456789abcdef0123456789abcdef')
  await session.append('user', 'hello')
  await session.append('assistant', 'hi')
  const state = join(FIXTURES, 'llama_ggsq3_f16_fa.bin')
  const made = await session.save(state)
  assert.equal(made.turns, 1)
  assert(made.capsule !== null && made.tokenCount > 0)
  const resumed = await session.resume()
  assert.equal(resumed.rung, 'exact')
  assert(readFileSync(state).equals(resumed.state))
  assert.deepEqual((await session.events()).map((event) => event.kind), ['user', 'assistant'])
  const reverted = await session.revertToTurn(0)
  assert.equal(reverted.turns, 0)
  assert.deepEqual(await manager.sessions(), [session.id])
  await assert.rejects(session.revertToTurn(7), (error) => error.code.startsWith('KVC-95'))
  await assert.rejects(session.append('joke', 'no'), refused('KVC-944'))
})

test('a profile is made and loaded as the program does', async (t) => {
  const { settings, state } = await place(t)
  const made = await kvcap.Profile.create('default', { model: settings.model, ttl: '2h' }, { issuer: 'me.example.com' })
  assert.equal(made.name, 'default')
  assert.deepEqual(kvcap.Profile.load().settings.ttl, ['2h'])
  const { capsule } = await kvcap.seal(state, { dangerNoPrefix: true })
  assert.equal((await kvcap.verify(capsule)).issuer, 'me.example.com')
})
