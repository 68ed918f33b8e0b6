// Seals and opens a state in memory: `measure.js STATE MODEL FOLDER`, as bindings/calls/measure.rs.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'

import * as kvcap from './index.js'

const [path, model, folder] = process.argv.slice(2)
const file = (name) => join(folder, name)
const keys = { signKey: file('issuer.key'), trust: file('issuer.key.pub'), wrapKey: file('reader.key') }
const profile = new kvcap.Profile({ ...keys, model, ttl: '1h' })
const state = readFileSync(path)
const took = [0, 0]
let capsule
for (let round = 0; round < 2; round++) {
  const start = performance.now()
  const sealed = await kvcap.seal(state, { profile, dangerNoPrefix: true })
  took[0] = (performance.now() - start) / 1000
  capsule = sealed.capsule
}
for (let round = 0; round < 2; round++) {
  const start = performance.now()
  const opened = await kvcap.open(capsule, { profile })
  took[1] = (performance.now() - start) / 1000
  if (!state.equals(opened.state)) throw new Error('the state does not come back')
}
console.log(took.map((seconds) => seconds.toFixed(4)).join(' '))
