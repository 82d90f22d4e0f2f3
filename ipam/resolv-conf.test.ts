import { expect, test } from 'vitest'
import { parseResolvConf, readResolvConf } from './resolv-conf.ts'

test('repeats add up, the last domain counts, comments and unknown lines are skipped', () => {
  const text = `
    # generated
    ; also a comment
    domain first.example
    nameserver 192.0.2.1
    nameserver\t2001:db8::1   trailing
    search a.example b.example
    search c.example
    domain last.example
    options ndots:5 edns0
    options rotate
    sortlist 10.0.0.0
    nameserver
  `
  expect(parseResolvConf(text)).toEqual({
    nameservers: ['192.0.2.1', '2001:db8::1'],
    domain: 'last.example',
    search: ['a.example', 'b.example', 'c.example'],
    options: ['ndots:5', 'edns0', 'rotate'],
  })
})

test('an empty file says nothing', () => {
  expect(parseResolvConf('')).toEqual({})
})

test('a file that cannot be read is named', () => {
  expect(() => readResolvConf('/nonexistent/resolv.conf')).toThrow(
    'ipam.resolvConf: open /nonexistent/resolv.conf: ENOENT',
  )
})
