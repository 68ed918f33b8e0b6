// The test vectors through the module (KVCAP_VECTORS: what kvcap-calls' vector-settings writes): from its file, from memory,
// and as its bytes come.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'

import * as kvcap from '../index.js'

const code = async (call) => {
  try {
    await call()
    return 'accepted'
  } catch (error) {
    if (!(error instanceof kvcap.KvcapError)) throw error
    return error.code
  }
}

async function pushed(terms, capsule, size) {
  const verifying = new kvcap.Verifying(terms)
  for (let at = 0; at < capsule.length; at += size) await verifying.feed(capsule.subarray(at, at + size))
  return verifying.finish()
}

test('every vector that settings can say is judged as its index says', async () => {
  const lines = readFileSync(join(process.env.KVCAP_VECTORS, 'list.tsv'), 'utf8').trim().split('\n')
  assert(lines.length > 400)
  const wrong = []
  for (const line of lines) {
    const [name, file, number, push, accepted, chain, session, ...said] = line.split('\t')
    const settings = {}
    for (const one of said) {
      const at = one.indexOf('=')
      const key = one.slice(0, at).replace(/_(.)/g, (_, letter) => letter.toUpperCase())
      const value = one.slice(at + 1).replace('\\n', '\n')
      settings[key] = key in settings ? [settings[key], value].flat() : value
    }
    const [id, version, replayCursor] = session.split(',').map((part) => part || undefined)
    const terms = {
      profile: new kvcap.Profile(settings),
      acceptUnchecked: accepted.split(','),
      chain: chain ? chain.split(',') : [],
      session: id && { id, version: version && Number(version), replayCursor: replayCursor && Number(replayCursor) },
    }
    const expected = number === '0' ? 'accepted' : `KVC-${number}`
    const capsule = readFileSync(file)
    const ways = { file: () => kvcap.verify(file, terms), memory: () => kvcap.verify(capsule, terms) }
    if (push === '1' && capsule.length < 1 << 20) {
      ways['997 bytes at a time'] = () => pushed(terms, capsule, 997)
      ways['a mebibyte at a time'] = () => pushed(terms, capsule, 1 << 20)
    }
    for (const [way, call] of Object.entries(ways)) {
      const found = await code(call)
      if (found !== expected) wrong.push(`${name}, ${way}: ${found}, not ${expected}`)
    }
  }
  assert.deepEqual(wrong, [])
})
