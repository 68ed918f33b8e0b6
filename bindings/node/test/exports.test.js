import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import test from 'node:test'

import * as kvcap from '../index.js'

test('the types name what the module has', () => {
  const types = readFileSync(new URL('../index.d.ts', import.meta.url), 'utf8')
  const named = [...types.matchAll(/^export (?:class|function) (\w+)/gm)].map((match) => match[1])
  assert.deepEqual(named.sort(), Object.keys(kvcap).sort())
  for (const name of named.filter((name) => /^[A-Z]/.test(name) && name !== 'KvcapError' && name !== 'VerifyStream')) {
    const body = types.match(new RegExp(`^export class ${name} [^]*?^}`, 'm'))[0]
    const said = [...body.matchAll(/^  (?:static |readonly )*(\w+)(?=[(:?])/gm)].map((match) => match[1])
    const made = kvcap[name]
    const has = [...Object.getOwnPropertyNames(made.prototype), ...Object.getOwnPropertyNames(made)]
    const own = has.filter((member) => !['constructor', 'length', 'name', 'prototype'].includes(member))
    const expected = said.filter((member) => member !== 'constructor' && !(member === 'name'))
    assert.deepEqual(own.sort(), [...new Set(expected)].sort(), name)
  }
})
