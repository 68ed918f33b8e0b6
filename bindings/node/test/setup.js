// A reader and a sealer with keys of their own, and the project's small model and saved states.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import * as kvcap from '../index.js'

export const FIXTURES = fileURLToPath(new URL('../../../tests/fixtures/', import.meta.url))

/** A folder with keys, gone after the test, and what both sides set. No configuration of the user who runs the tests. */
export async function place(t) {
  const folder = mkdtempSync(join(tmpdir(), 'kvcap-'))
  t.after(() => rmSync(folder, { recursive: true }))
  for (const name of ['HOME', 'XDG_CONFIG_HOME', 'XDG_STATE_HOME', 'XDG_CACHE_HOME']) process.env[name] = join(folder, 'home')
  const file = (name) => join(folder, name)
  await kvcap.newSigningKey(file('issuer.key'), { issuer: 'prefill.example.com' })
  await kvcap.newWrappingKey(file('reader.key'))
  const settings = {
    signKey: file('issuer.key'),
    wrapKey: file('reader.key'),
    trust: file('issuer.key.pub'),
    model: join(FIXTURES, 'model'),
    ttl: '1h',
  }
  return { file, settings, profile: new kvcap.Profile(settings), state: join(FIXTURES, 'hf_f16.safetensors') }
}
