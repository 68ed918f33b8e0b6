import assert from 'node:assert/strict'
import { pathToFileURL } from 'node:url'
import test from 'node:test'

import * as kvcap from '../index.js'
import { place } from './setup.js'

const refused = (code) => (error) => error instanceof kvcap.KvcapError && (assert.equal(error.code, code), true)

test('a registry lists keys and revokes capsules', async (t) => {
  const { profile, settings, state, file } = await place(t)
  const root = await kvcap.newRootKey(file('root.key'), { passphrase: 'a passphrase' })
  const path = pathToFileURL(file('all keys.registry'))
  const by = { rootKey: file('root.key'), passphrase: 'a passphrase' }
  await assert.rejects(kvcap.createRegistry(path, { rootKey: by.rootKey, ttl: 3600 }), refused('KVC-946'))
  await assert.rejects(kvcap.createRegistry(path, { ...by, ttl: -1 }), refused('KVC-944'))
  const made = await kvcap.createRegistry(path, { ...by, ttl: 3600 })
  assert.deepEqual([made.version, made.root, made.keys, made.revoked], [1, root.id, [], []])
  await assert.rejects(kvcap.createRegistry(path, { ...by, ttl: 3600 }), refused('KVC-941'))
  const capsule = await kvcap.seal(state, { to: file('a.kvcap'), profile, dangerNoPrefix: true })
  const { trust, ...others } = settings
  const verifier = new kvcap.Profile({ ...others, registry: file('all keys.registry'), registryRoot: root.publicPath })
  await assert.rejects(kvcap.verify(file('a.kvcap'), { profile: verifier }), refused('KVC-301'))

  const next = await kvcap.changeRegistry(path, { ...by, add: [trust], ttl: 7200 })
  assert.deepEqual([next.version, next.expires - next.issuedAt], [2, 7200])
  assert.deepEqual(next.keys, [kvcap.readPublicKey(trust).id])
  assert.equal((await kvcap.verify(file('a.kvcap'), { profile: verifier })).id, capsule.id)

  // all of the changes or none
  await assert.rejects(kvcap.changeRegistry(path, { ...by, add: [trust], revoke: ['0'.repeat(31) + '1'] }), refused('KVC-311'))
  assert.deepEqual((await kvcap.changeRegistry(path, by)).revoked, [])
  assert.deepEqual((await kvcap.changeRegistry(path, { ...by, revoke: [file('a.kvcap')] })).revoked, [capsule.id])
  await assert.rejects(kvcap.verify(file('a.kvcap'), { profile: verifier }), refused('KVC-409'))
  await assert.rejects(kvcap.changeRegistry(path, { ...by, retire: ['00'.repeat(16)] }), refused('KVC-301'))
  assert.equal((await kvcap.changeRegistry(path, { ...by, compromise: next.keys })).version, 5)
})

test('a second key of an issuer is listed where the issuer is named', async (t) => {
  const { settings, file } = await place(t)
  await kvcap.newRootKey(file('root.key'))
  const [path, by] = [file('keys.registry'), { rootKey: file('root.key') }]
  await kvcap.createRegistry(path, { ...by, ttl: 3600 })
  const second = await kvcap.newSigningKey(file('second.key'), { issuer: 'prefill.example.com' })
  await kvcap.changeRegistry(path, { ...by, add: [settings.trust] })
  await assert.rejects(kvcap.changeRegistry(path, { ...by, add: [second.publicPath] }), refused('KVC-944'))
  const add = [{ key: second.publicPath, issuer: 'prefill.example.com' }]
  const both = await kvcap.changeRegistry(path, { ...by, add })
  assert(both.keys.length === 2 && both.keys.includes(second.id))
})
