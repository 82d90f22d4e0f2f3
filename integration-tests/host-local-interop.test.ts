import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { text } from 'node:stream/consumers'
import { setTimeout } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, type TestContext, test } from 'vitest'
import { Section } from '../config/reader.ts'
import { allocate, check, collect, find, type HostLocalConf, parseHostLocal, release } from '../ipam/host-local.ts'
import { executables, referencePlugins } from './host.ts'

/*
 * One store, two implementations: the reference's host-local as a process, ours as a library in this process and as a
 * process. Whatever one of them allocates the other must honour and can release.
 */

const reference = `${referencePlugins}/host-local`
const ours = `${executables}/host-local`

function requirePlugin(path: string, context: TestContext): void {
  if (existsSync(path)) return
  const reason = `${path} is not there`
  if (process.env.CI) throw new Error(`${reason}; under CI both plugins must be`)
  console.warn(`skipped: ${context.task.name}: ${reason}`)
  context.skip(reason)
}

let dataDir: string
beforeEach((context) => {
  requirePlugin(reference, context)
  dataDir = mkdtempSync(`${tmpdir()}/interop-`)
})
afterEach(() => {
  if (dataDir) rmSync(dataDir, { recursive: true, force: true })
})

interface Call {
  readonly ipam?: object
  readonly args?: string
  readonly ifName?: string
  readonly runtimeConfig?: object
}
const subnet = { subnet: '10.77.0.0/29' }

const netconf = ({ ipam = subnet, runtimeConfig }: Call) => ({
  cniVersion: '1.0.0',
  name: 'net',
  type: 'bridge',
  ipam: { type: 'host-local', dataDir, ...ipam },
  runtimeConfig,
})

const environment = (command: string, id: string, { args = '', ifName = 'eth0' }: Call) => ({
  CNI_COMMAND: command,
  CNI_CONTAINERID: id,
  CNI_IFNAME: ifName,
  CNI_ARGS: args,
  CNI_NETNS: '/run/netns/none',
  CNI_PATH: referencePlugins,
})

const addressesIn = (stdout: string): string[] =>
  JSON.parse(stdout).ips.map(({ address }: { address: string }) => address.split('/')[0])

/** The reference: addresses of an ADD, or an exception with its message. */
function theirs(command: string, id: string, call: Call = {}): string[] {
  const { status, stdout } = spawnSync(reference, {
    env: environment(command, id, call),
    input: JSON.stringify(netconf(call)),
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(JSON.parse(stdout).msg)
  return stdout === '' ? [] : addressesIn(stdout)
}

function confOf({ ipam = subnet, args = '', runtimeConfig }: Call = {}): HostLocalConf {
  return parseHostLocal({
    network: 'net',
    ipam: new Section({ dataDir, ...ipam }, 'ipam'),
    runtimeConfig: runtimeConfig && new Section({ ...runtimeConfig }, 'runtimeConfig'),
    cniArgs: new Map(args === '' ? [] : [args.split('=') as [string, string]]),
    cniVersion: '1.0.0',
  })
}
const of = (containerId: string, ifName = 'eth0') => ({ network: 'net', containerId, ifName })
const add = (id: string, call: Call = {}) =>
  allocate(confOf(call), of(id, call.ifName)).ips.map(({ address }) => address.address)

const storeFiles = () => readdirSync(`${dataDir}/net`).sort()
const read = (name: string) => readFileSync(`${dataDir}/net/${name}`, 'utf8')
const leaseFiles = () => storeFiles().filter((name) => !/^l/.test(name))

describe('taking turns', () => {
  test('a /29 is walked in one order, whoever asks', () => {
    const turns = [add, (id: string) => theirs('ADD', id)]
    const given = [1, 2, 3, 4, 5].flatMap((i) => turns[i % 2]!(`c${i}`))
    expect(given).toEqual(['10.77.0.2', '10.77.0.3', '10.77.0.4', '10.77.0.5', '10.77.0.6'])
    expect(() => add('c6')).toThrow('no IP addresses available in range set: 10.77.0.1-10.77.0.6')
    expect(() => theirs('ADD', 'c6')).toThrow('no IP addresses available in range set: 10.77.0.1-10.77.0.6')

    release(confOf(), of('c2')) // made by us
    theirs('DEL', 'c4') // made by us
    expect([theirs('ADD', 'c7'), add('c8')]).toEqual([['10.77.0.3'], ['10.77.0.5']])

    release(confOf(), of('c1')) // made by the reference
    theirs('DEL', 'c8') // made by us
    expect([add('c9'), theirs('ADD', 'c10')]).toEqual([['10.77.0.2'], ['10.77.0.5']])
  })

  test('both leave the same files', () => {
    const ipam = { ranges: [[{ subnet: '10.77.0.0/24' }], [{ subnet: 'FD00:0:0::/64' }]] }
    const contents = () => storeFiles().map((name) => [name, read(name)])
    add('c1', { ipam })
    const byUs = contents()
    rmSync(`${dataDir}/net`, { recursive: true })
    theirs('ADD', 'c1', { ipam })
    expect(byUs).toEqual(contents())
  })

  test('CHECK and the refusal of a second ADD know the leases of the other', () => {
    theirs('ADD', 'c1')
    check(confOf(), of('c1'))
    expect(() => add('c1')).toThrow('10.77.0.2 has been allocated to c1')
    expect(add('c1', { ifName: 'eth1' })).toEqual(['10.77.0.3'])
    theirs('CHECK', 'c1', { ifName: 'eth1' })
    expect(() => theirs('ADD', 'c1', { ifName: 'eth1' })).toThrow('duplicate allocation is not allowed')
    release(confOf(), of('c1'))
    expect(() => theirs('CHECK', 'c1')).toThrow('Failed to find address')
    theirs('DEL', 'c1', { ifName: 'eth1' })
    expect(() => check(confOf(), of('c1', 'eth1'))).toThrow('Failed to find address')
  })

  test('DEL of what the other has never heard of', () => {
    theirs('DEL', 'nobody')
    release(confOf(), of('nobody'))
    expect(leaseFiles()).toEqual([])
  })

  test('requested addresses', () => {
    const ask = (address: string): Call => ({ args: `IP=${address}` })
    expect(theirs('ADD', 'c1', ask('10.77.0.5'))).toEqual(['10.77.0.5'])
    expect(() => add('c2', ask('10.77.0.5'))).toThrow('held by container c1 (interface eth0)')
    expect(add('c2', ask('10.77.0.3'))).toEqual(['10.77.0.3'])
    expect(() => theirs('ADD', 'c3', ask('10.77.0.3'))).toThrow('requested IP address 10.77.0.3 is not available')
    for (const address of ['10.77.0.1', '10.9.0.1']) {
      const messageOf = (work: () => unknown) => {
        try {
          return String(work())
        } catch (error) {
          return (error as Error).message
        }
      }
      expect(messageOf(() => add('c4', ask(address)))).toBe(messageOf(() => theirs('ADD', 'c4', ask(address))))
    }
    expect(leaseFiles()).toEqual(['10.77.0.3', '10.77.0.5'])
    // The reference took and gave back 10.77.0.4 before it found that 10.9.0.1 is in no range.
    expect([theirs('ADD', 'c5'), add('c6')]).toEqual([['10.77.0.6'], ['10.77.0.2']])
  })

  test('ranges of the runtime come first, in sets and in files', () => {
    const call: Call = { ipam: subnet, runtimeConfig: { ipRanges: [[{ subnet: '10.78.0.0/24' }]] } }
    expect(theirs('ADD', 'c1', call)).toEqual(['10.78.0.2', '10.77.0.2'])
    expect(add('c2', call)).toEqual(['10.78.0.3', '10.77.0.3'])
    expect([read('last_reserved_ip.0'), read('last_reserved_ip.1')]).toEqual(['10.78.0.3', '10.77.0.3'])
  })

  test('leases of the reference outlive a reboot, ours end with it', () => {
    add('ours')
    theirs('ADD', 'theirs')
    add('ours2')
    expect(find({ ...confOf(), bootId: 'another' }, of('theirs'))).toEqual(['10.77.0.3'])
    expect(leaseFiles()).toEqual(['10.77.0.3'])
    expect(theirs('ADD', 'c4')).toEqual(['10.77.0.5'])
  })

  test('GC releases leases of both', () => {
    for (const [i, turn] of [add, (id: string) => theirs('ADD', id), add].entries()) turn(`c${i}`)
    collect(confOf(), [{ containerId: 'c1', ifName: 'eth0' }])
    expect(leaseFiles()).toEqual(['10.77.0.3'])
    theirs('DEL', 'c1')
    expect(leaseFiles()).toEqual([])
  })
})

describe('all at once', () => {
  /** Starts a plugin with its stdin in a file, so that it needs nothing from this process while this one is busy. */
  function start(plugin: string, command: string, id: string, call: Call): ChildProcess {
    const input = `${dataDir}/input-${command}-${id}`
    writeFileSync(input, JSON.stringify(netconf(call)))
    const fd = openSync(input, 'r')
    try {
      return spawn(plugin, { env: environment(command, id, call), stdio: [fd, 'pipe', 'inherit'] })
    } finally {
      closeSync(fd)
    }
  }

  async function outcome(child: ChildProcess): Promise<string[]> {
    const [stdout, status] = await Promise.all([
      text(child.stdout!),
      new Promise((resolve) => child.on('exit', resolve)),
    ])
    if (status !== 0) throw new Error(stdout)
    return stdout === '' ? [] : addressesIn(stdout)
  }

  const ipam = { ranges: [[{ subnet: '10.77.0.0/24' }], [{ subnet: 'fd00::/64' }]] }

  test('every address is given once, and everything can be released by the other', async (context) => {
    requirePlugin(ours, context)
    const running: Promise<string[]>[] = []
    const given: string[] = []
    for (let i = 0; i < 40; i++) {
      running.push(outcome(start(reference, 'ADD', `theirs${i}`, { ipam })))
      if (i % 2 === 0) running.push(outcome(start(ours, 'ADD', `process${i}`, { ipam })))
      given.push(...add(`library${i}`, { ipam }))
      if (i % 5 === 0) release(confOf({ ipam }), of(`library${i}`))
    }
    const all = [...given, ...(await Promise.all(running)).flat()]
    expect(all).toHaveLength(200)
    expect(new Set(all).size).toBe(200) // the walk goes on, so not even a released one comes again
    expect(leaseFiles()).toHaveLength(200 - 16)

    const releases: Promise<string[]>[] = []
    for (let i = 0; i < 40; i++) {
      releases.push(outcome(start(reference, 'DEL', `library${i}`, { ipam })))
      if (i % 2 === 0) releases.push(outcome(start(ours, 'DEL', `process${i}`, { ipam })))
      release(confOf({ ipam }), of(`theirs${i}`))
    }
    await Promise.all(releases)
    expect(leaseFiles()).toEqual([])
  })

  test('a range with room for some gives each of them one address and the rest an error', async (context) => {
    requirePlugin(ours, context)
    const call = { ipam: { subnet: '10.77.0.0/27' } } // 29 addresses
    const running = Array.from({ length: 40 }, (_, i) => start(i % 2 ? reference : ours, 'ADD', `c${i}`, call))
    const ends = await Promise.allSettled(running.map(outcome))
    const given = ends.flatMap((end) => (end.status === 'fulfilled' ? end.value : []))
    expect(new Set(given).size).toBe(29)
    expect(given).toHaveLength(29)
    for (const end of ends)
      if (end.status === 'rejected') expect(end.reason.message).toContain('no IP addresses available')
  })

  test('processes killed at any moment share no address and leave nothing that DEL does not release', async (context) => {
    requirePlugin(ours, context)
    const ids = Array.from({ length: 120 }, (_, i) => `c${i}`)
    await Promise.all(
      ids.map(async (id, i) => {
        await setTimeout(i * 4)
        const child = start(i % 4 ? ours : reference, 'ADD', id, { ipam })
        const end = outcome(child).catch(() => []) // killed, as it should be
        await setTimeout((i * 7) % 23)
        child.kill('SIGKILL')
        await end
      }),
    )
    const survivors = ids.flatMap((id) => find(confOf({ ipam }), of(id)))
    expect(new Set(survivors).size).toBe(survivors.length)
    expect(leaseFiles().sort()).toEqual(survivors.sort())
    for (const id of ids) release(confOf({ ipam }), of(id))
    expect(leaseFiles()).toEqual([])
    expect(add('last', { ipam })).toHaveLength(2)
  })
})
