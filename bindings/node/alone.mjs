// Tries an installed package by itself: seals a state, verifies and opens it, and sees a stranger's capsule refused.
//
//   node alone.mjs STATE FOLDER
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'

import * as kvcap from 'kvcap'

const [state, under] = process.argv.slice(2)
const folder = mkdtempSync(join(under, 'alone-'))
const file = (name) => join(folder, name)
try {
  for (const who of ['issuer', 'stranger']) {
    await kvcap.newSigningKey(file(`${who}.key`), { issuer: `${who}.example.com` })
  }
  await kvcap.newWrappingKey(file('reader.key'))
  const profile = (who) =>
    new kvcap.Profile({
      signKey: file(`${who}.key`),
      wrapKey: file('reader.key'),
      trust: file('issuer.key.pub'),
      model: join(dirname(state), 'model'),
      ttl: '1h',
    })
  const sealed = (who) => kvcap.seal(state, { profile: profile(who), dangerNoPrefix: true })
  const { capsule } = await sealed('issuer')
  await kvcap.verify(capsule, { profile: profile('issuer') })
  assert((await kvcap.open(capsule, { profile: profile('issuer') })).state.equals(readFileSync(state)))
  const { capsule: strange } = await sealed('stranger')
  await assert.rejects(kvcap.verify(strange, { profile: profile('issuer') }), (refused) => /^KVC-3/.test(refused.code))
} finally {
  rmSync(folder, { recursive: true })
}
