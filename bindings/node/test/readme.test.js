// The README's lines, as they stand there.
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { execFileSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'

import { FIXTURES, place } from './setup.js'

test("the README's lines seal a state and take it back", async (t) => {
  const { file, state } = await place(t)
  const here = dirname(dirname(fileURLToPath(import.meta.url)))
  const [, lines] = readFileSync(join(here, 'README.md'), 'utf8').match(/```js\n([^]*?)```/)
  mkdirSync(file('node_modules'))
  symlinkSync(here, file('node_modules/kvcap'))
  const names = { MODEL: join(FIXTURES, 'model'), STATE: state, CAPSULE: file('chat.kvcap') }
  const given = Object.entries(names).map(([name, value]) => `const ${name} = ${JSON.stringify(value)}\n`)
  const after = "import { writeFileSync } from 'node:fs'\nwriteFileSync(`${CAPSULE}.state`, state)\n"
  writeFileSync(file('eight.mjs'), given.join('') + lines + after)
  execFileSync(process.execPath, [file('eight.mjs')], { env: process.env, stdio: ['ignore', 'inherit', 'pipe'] })
  assert(readFileSync(`${names.CAPSULE}.state`).equals(readFileSync(state)))
})
