import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Attachment } from '../config/attachment.ts'
import type { Masquerade } from '../nat/masquerade.ts'
import { iptablesMasquerade } from '../nat/masquerade-iptables.ts'
import { type Cidr, cidr } from '../netlink-lib/ip.ts'
import { Netns } from '../netlink-lib/netns.ts'
import { createHost, type Host, requireTool } from './host.ts'
import { createPrograms, type Programs, savedRules, useVariant, variants } from './programs.ts'

const attachment = (containerId: string, network = 'lab'): Attachment => ({ network, containerId, ifName: 'eth0' })
const addresses = (n: number): Cidr[] => [cidr(`10.7.0.${n}/24`), cidr(`fd00:7::${n.toString(16)}/64`)]

describe.each(variants)('iptables, variant %s', (variant) => {
  let programs: Programs
  let root: string
  let path: string | undefined

  beforeEach((context) => {
    programs = createPrograms()
    useVariant(programs, variant, context)
    root = join(programs.folder, 'nat')
    path = process.env.PATH
    process.env.PATH = programs.env.PATH
  })

  afterEach(() => {
    process.env.PATH = path
    programs[Symbol.dispose]()
  })

  function inHost<T>(host: Host, work: (masquerade: Masquerade) => T): T {
    using netns = Netns.open(`/proc/${host.pid}/ns/net`)
    return netns.run(() => {
      using masquerade = iptablesMasquerade(root)
      return work(masquerade) as never
    })
  }

  /** What the chosen variant has in its nat tables, without its own chains. */
  const rules = (host: Host) =>
    savedRules(host, programs, 'nat').filter((line) => line.startsWith('-A') || line.startsWith(':NS-NET'))

  test('rules per network; the last DEL removes them', () => {
    using host = createHost()
    inHost(host, (masquerade) => {
      masquerade.del(attachment('c1'))
      masquerade.add(attachment('c1'), addresses(2), { exempt: [cidr('192.168.0.0/16')] })
      const once = rules(host)
      const chain = once[0]!.match(/NS-NET-[0-9a-f]{16}/)![0]
      expect(once).toContain(`-A POSTROUTING -s 10.7.0.0/24 -m comment --comment "ns-net:lab" -j ${chain}`)
      expect(once.filter((line) => line.startsWith(`-A ${chain} `))).toEqual([
        `-A ${chain} -d 10.7.0.0/24 -j ACCEPT`,
        `-A ${chain} -d 224.0.0.0/4 -j ACCEPT`,
        `-A ${chain} -d 192.168.0.0/16 -j ACCEPT`,
        `-A ${chain} -j MASQUERADE`,
      ])
      expect(once.filter((line) => line.includes('ff00::/8'))).toHaveLength(1)
      for (let n = 3; n < 6; n++)
        masquerade.add(attachment(`c${n}`), addresses(n), { exempt: [cidr('192.168.0.0/16')] })
      masquerade.add(attachment('c1'), addresses(2), { exempt: [cidr('192.168.0.0/16')] })
      expect(rules(host)).toEqual(once)
      masquerade.check(attachment('c5'), addresses(5), { exempt: [cidr('192.168.0.0/16')] })
      for (const name of ['c1', 'c3', 'c4', 'c4', 'c9']) masquerade.del(attachment(name), ['10.7.0.2'])
      expect(rules(host)).toEqual(once)
      masquerade.del(attachment('c5'))
    })
    expect(rules(host)).toEqual([])
    expect(existsSync(root)).toBe(false)
  })

  test('ADD repairs and CHECK names what someone flushed', () => {
    using host = createHost()
    inHost(host, (masquerade) => {
      masquerade.add(attachment('c1'), addresses(2))
      const complete = rules(host)
      const chain = complete[0]!.match(/NS-NET-[0-9a-f]{16}/)![0]
      host.run([join(programs.folder, 'iptables'), '-t', 'nat', '-F', 'POSTROUTING'])
      expect(() => masquerade.check(attachment('c1'), addresses(2))).toThrow('nat rule "-A POSTROUTING -s 10.7.0.0/24')
      masquerade.add(attachment('c2'), addresses(3))
      expect(rules(host).sort()).toEqual(complete.sort())
      host.run([join(programs.folder, 'iptables'), '-t', 'nat', '-D', chain, '-j', 'MASQUERADE'])
      expect(() => masquerade.check(attachment('c1'), addresses(2))).toThrow(`rule 3 of chain ${chain} is "missing"`)
      expect(() => masquerade.check(attachment('c9'), addresses(2))).toThrow('"lab c9 eth0" is not among the users')
      host.run([join(programs.folder, 'iptables'), '-t', 'nat', '-F'])
      for (const name of ['c1', 'c2']) masquerade.del(attachment(name))
    })
    expect(rules(host)).toEqual([])
  })

  test('a source of its own ends the chain of its family', () => {
    using host = createHost()
    inHost(host, (masquerade) => {
      masquerade.add(attachment('c1'), addresses(2), { snat: ['2001:db8::10'] })
      const targets = () => rules(host).flatMap((line) => line.match(/(?<=^-A NS-NET-\w+ )-j .*/) ?? [])
      expect(targets()).toEqual(['-j MASQUERADE', '-j SNAT --to-source 2001:db8::10'])
      masquerade.check(attachment('c1'), addresses(2), { snat: ['2001:db8::10'] })
      expect(() => masquerade.check(attachment('c1'), addresses(2), { snat: ['2001:db8::11'] })).toThrow('not among')
      masquerade.add(attachment('c2'), addresses(3), { snat: ['192.0.2.10', '2001:db8::10'] })
      expect(targets()).toEqual([
        '-j MASQUERADE',
        '-j SNAT --to-source 192.0.2.10',
        '-j SNAT --to-source 2001:db8::10', // shared
      ])
      for (const name of ['c1', 'c2']) masquerade.del(attachment(name))
    })
    expect(rules(host)).toEqual([])
  })

  test('GC and foreign rules: what is not ours stays', () => {
    using host = createHost()
    const foreign = [
      join(programs.folder, 'iptables'),
      '-t',
      'nat',
      '-A',
      'POSTROUTING',
      '-s',
      '10.9.0.0/24',
      '-j',
      'RETURN',
    ]
    host.run(foreign)
    const before = rules(host)
    inHost(host, (masquerade) => {
      for (let n = 2; n < 6; n++) masquerade.add(attachment(`c${n}`), addresses(n))
      masquerade.add(attachment('c1', 'lab-2'), [cidr('10.8.0.2/20'), cidr('10.8.0.3/20')], {
        exempt: [cidr('0.0.0.0/0')],
      })
      masquerade.check(attachment('c1', 'lab-2'), [cidr('10.8.0.2/20')], { exempt: [cidr('0.0.0.0/0')] })
      masquerade.collect('lab', [attachment('c3')])
      masquerade.check(attachment('c3'), addresses(3))
      masquerade.collect('lab', [])
      expect(rules(host).filter((line) => line.includes('"ns-net:'))).toHaveLength(1)
      masquerade.collect('lab-2', [])
    })
    expect(rules(host)).toEqual(before)
    expect(existsSync(root)).toBe(false)
  })

  test('an ADD that fails for one family leaves nothing of the other', () => {
    using host = createHost()
    programs.replace('ip6tables-restore', 'echo no module >&2; exit 3')
    inHost(host, (masquerade) => {
      expect(() => masquerade.add(attachment('c1'), addresses(2))).toThrow(
        'ip6tables-restore --noflush -w 5: exit 3: no module',
      )
    })
    expect(rules(host)).toEqual([])
    expect(existsSync(root)).toBe(false)
  })

  test('a lock that stays taken is a failure to try again', () => {
    using host = createHost()
    const text =
      'Another app is currently holding the xtables lock; still 0s 0us time ahead to have a chance to grab it...'
    programs.replace('iptables-restore', `echo "${text}" >&2; exit 4`)
    inHost(host, (masquerade) => {
      expect(() => masquerade.add(attachment('c1'), addresses(2))).toThrow(expect.objectContaining({ code: 'EAGAIN' }))
    })
    expect(existsSync(root)).toBe(false)
  })

  test('outside sees the host', (context) => {
    requireTool('ping', context)
    using host = createHost()
    host.addUplink()
    const container = host.addContainer('c2')
    host.sh(`echo 1 >/proc/sys/net/ipv4/ip_forward
             ip link add v2 type veth peer name eth0 netns c2
             ip address add 10.7.0.1/24 dev v2
             ip link set v2 up`)
    container.sh(`ip address add 10.7.0.2/24 dev eth0
                  ip link set eth0 up
                  ip route add default via 10.7.0.1`)
    container.run(['ping', '-c1', '-W1', '192.0.2.2'], { expectFailure: true })
    inHost(host, (masquerade) => masquerade.add(attachment('c2'), addresses(2)))
    container.run(['ping', '-c1', '-W2', '192.0.2.2'])
  })

  test('many processes add and delete at the same time', async (context) => {
    const bun = fileURLToPath(new URL('../node_modules/.bin/bun', import.meta.url))
    if (!existsSync(bun)) {
      if (process.env.CI) throw new Error('bun is not installed')
      return context.skip('bun is not installed')
    }
    using host = createHost()
    const source = fileURLToPath(new URL('..', import.meta.url))
    const program = join(programs.folder, 'worker.ts')
    writeFileSync(
      program,
      `import { openMasquerade } from '${source}nat/masquerade.ts'
       import { cidr } from '${source}netlink-lib/ip.ts'
       const masquerade = openMasquerade('iptables')
       for (let i = 0; i < 10; i++) {
         const attachment = { network: 'lab' + (i % 2), containerId: process.argv[2] + i, ifName: 'eth0' }
         const addresses = [cidr('10.' + (i % 2) + '.0.2/24')]
         masquerade.add(attachment, addresses)
         masquerade.check(attachment, addresses)
         masquerade.del(attachment)
       }`,
    )
    const workers = Array.from({ length: 6 }, (_, n) =>
      host.start(['env', `PATH=${programs.folder}:${process.env.PATH}`, bun, program, `w${n}-`]),
    )
    const ends = workers.map(
      (worker) =>
        new Promise<string>((resolve) => {
          let output = ''
          for (const stream of [worker.stdout!, worker.stderr!])
            stream.on('data', (text) => {
              output += text
            })
          worker.on('close', (code) => resolve(code === 0 ? '' : `exit ${code}: ${output}`))
        }),
    )
    expect((await Promise.all(ends)).filter((text) => text !== '')).toEqual([])
    expect(rules(host)).toEqual([])
    expect(existsSync(host.file('/run/ns-net/nat'))).toBe(false)
  })
})
