import type { Value } from '../../config/reader.ts'
import { canonicalIp } from '../../netlink-lib/ip.ts'
import type { TestEntry } from './document.ts'
import { suggestion } from './mistakes.ts'

/** `web`, `web:80`, `8.8.8.8`, `8.8.8.8:53`, `2001:db8::1`, `[2001:db8::1]:80`. */
export function parseTestTarget(value: Value, nodes: readonly string[]): TestEntry['target'] {
  const text = value.string()
  const bare = canonicalIp(text)
  if (bare !== undefined) return { address: bare }
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d+))?$/.exec(text) ?? []
  const port = digits === undefined ? undefined : Number(digits)
  if (port !== undefined && (port < 1 || port > 65535)) value.fail(`expected a port from 1 to 65535, got ${digits}`)
  const withPort = port === undefined ? {} : { port }
  const address = canonicalIp(bracketed ?? plain ?? '')
  if (address !== undefined) return { address, ...withPort }
  if (plain !== undefined && nodes.includes(plain)) return { node: plain, ...withPort }
  return value.fail(
    `expected a node, an address, or either with a port, got ${JSON.stringify(text)}${suggestion(plain ?? text, nodes)}`,
  )
}
