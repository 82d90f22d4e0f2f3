import type { Value } from '../../config/reader.ts'
import { formatCidr } from '../../netlink-lib/ip.ts'
import type { EndEntry, LinkEntry, TestEntry } from './document.ts'
import { type Mistakes, suggestion } from './mistakes.ts'
import { parseTestTarget } from './test-target.ts'
import { readShape, texts, withoutUndefined } from './values.ts'

export function readLink(value: Value, nodes: readonly string[], mistakes: Mistakes): LinkEntry {
  const section = value.object()
  const pair = (key: string): readonly Value[] => {
    const both = section.get(key)?.list((each) => each) ?? []
    if (both.length > 2) section.fail(key, `expected one for each end, got ${both.length}`)
    return both
  }
  const [addresses, macs] = [pair('addr'), pair('mac')]
  const isGiven = (each: Value | undefined): each is Value =>
    each !== undefined && each.json !== null && each.json !== ''
  const end = (key: 'a' | 'b', i: number): EndEntry => ({
    ...readEnd(section.require(key, 'NODE:INTERFACE, such as r1:eth9'), nodes),
    addresses: isGiven(addresses[i]) ? texts(addresses[i]).map((each) => formatCidr(each.cidr())) : [],
    ...(isGiven(macs[i]) && { mac: macs[i].mac() }),
  })
  const shape = readShape(section.get('shape'), mistakes)
  const entry: LinkEntry = {
    a: end('a', 0),
    b: end('b', 1),
    ...withoutUndefined({ mtu: section.get('mtu')?.integer(68, 65535), shape }),
    up: section.get('up')?.boolean() ?? true,
  }
  mistakes.refuseUnknown(value, section)
  if (entry.a.place === 'host' && entry.b.place === 'host') section.fail('b', 'expected a node at one end at least')
  return entry
}

function readEnd(value: Value, nodes: readonly string[]): Pick<EndEntry, 'place' | 'ifName'> {
  const text = value.string()
  const [, place, ifName] = /^([^:]+):([\w.@+-]{1,15})$/.exec(text) ?? []
  if (place === undefined || ifName === undefined)
    return value.fail(`expected NODE:INTERFACE, such as r1:eth9, got ${JSON.stringify(text)}`)
  if (place !== 'host' && !nodes.includes(place))
    value.fail(`no node "${place}" in this file${suggestion(place, nodes)}`)
  return { place, ifName }
}

export function readTest(value: Value, nodes: readonly string[], mistakes: Mistakes): TestEntry {
  const section = value.object()
  const from = section.require('from', 'the name of a node')
  const place = from.string()
  if (place !== 'host' && !nodes.includes(place))
    from.fail(`no node "${place}" in this file${suggestion(place, nodes)}`)
  const to = section.require('to', 'a node, an address, or either with a port')
  const entry: TestEntry = {
    from: place,
    to: to.string(),
    target: parseTestTarget(to, nodes),
    expect: section.get('expect')?.oneOf('reach', 'fail') ?? 'reach',
  }
  mistakes.refuseUnknown(value, section)
  return entry
}
