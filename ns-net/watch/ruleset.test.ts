import { expect, test } from 'vitest'
import {
  chainMessage,
  elementsMessage,
  generationMessage,
  messageTypes,
  ruleMessage,
  tableMessage,
} from '../../netlink-lib/nftables/messages.ts'
import { RulesetChanges } from './ruleset.ts'

const end = {
  type: messageTypes.newGeneration,
  body: generationMessage.encode({ generation: 7, pid: 812, process: 'nft' }),
}

test('a transaction is one event, which counts what it changes', () => {
  const changes = new RulesetChanges()
  const rule = { type: messageTypes.newRule, body: ruleMessage.encode({ family: 1, table: 't', chain: 'c' }) }
  const elements = elementsMessage.encode({ family: 1, table: 't', set: 's', elements: [{}, {}, {}] })
  for (const message of [
    { type: messageTypes.newTable, body: tableMessage.encode({ family: 1, name: 't' }) },
    { type: messageTypes.deleteChain, body: chainMessage.encode({ family: 2, table: 'u', name: 'old' }) },
    rule,
    rule,
    { type: messageTypes.newElements, body: elements },
  ])
    expect(changes.add(message)).toBeUndefined()
  expect(changes.add(end)).toEqual({
    what: 'ruleset by nft (pid 812)',
    remark: '+ table inet t, - chain ip u old, + 2 rules in inet t c, + 3 elements in inet t s',
    details: {
      generation: 7,
      pid: 812,
      process: 'nft',
      changes: [
        { action: 'added', object: 'table', of: 'inet t', count: 1 },
        { action: 'deleted', object: 'chain', of: 'ip u old', count: 1 },
        { action: 'added', object: 'rule', of: 'inet t c', count: 2 },
        { action: 'added', object: 'elements', of: 'inet t s', count: 3 },
      ],
    },
  })
  expect(changes.add(end)).toMatchObject({ remark: undefined, details: { changes: [] } })
})

test('a long list is cut, and what is not understood is passed over', () => {
  const changes = new RulesetChanges()
  for (const name of ['a', 'b', 'c', 'd', 'e', 'f'])
    changes.add({ type: messageTypes.newTable, body: tableMessage.encode({ family: 10, name }) })
  changes.add({ type: messageTypes.newRule, body: Buffer.from('0a0000ff', 'hex') })
  changes.add({ type: messageTypes.newChain, body: Buffer.from('ff', 'hex') })
  changes.add({ type: 0xaff, body: Buffer.alloc(0) })
  expect(changes.add(end)?.remark).toMatch(/^\+ table ip6 a, .*\+ table ip6 d, \d more$/)
})
