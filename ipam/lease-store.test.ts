import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Section } from '../config/reader.ts'
import { KernelError } from '../netlink-lib/errors.ts'
import { openFlags } from '../netlink-lib/files.ts'
import { withLock } from '../netlink-lib/flock.ts'
import type * as libcModule from '../netlink-lib/libc.ts'
import { IpamError } from './errors.ts'
import { allocate, check, collect, find, type HostLocalConf, leases, parseHostLocal, release } from './host-local.ts'
import { withStore } from './lease-store.ts'

/** System calls that change the file system and still happen; then the process is as good as dead. */
let life = Number.POSITIVE_INFINITY
/** Called before each of these with its name and its path. */
let beforeChange: (call: string, path: string) => void = () => {}

vi.mock('../netlink-lib/libc.ts', async (original) => {
  const real = await original<typeof libcModule>()
  const paths = new Map<number, string>()
  const changing = (call: string, path: string | undefined) => {
    if (life-- <= 0) throw new Error('killed')
    beforeChange(call, path!)
  }
  const { libc } = real
  const fragile: Partial<typeof libc> = {
    open(path, flags, mode) {
      if (flags & (openFlags.writeOnly | openFlags.create)) changing('open', path)
      const fd = libc.open(path, flags, mode)
      paths.set(fd, path)
      return fd
    },
    write(fd, ...rest) {
      changing('write', paths.get(fd))
      return libc.write(fd, ...rest)
    },
    ftruncate(fd, length) {
      changing('ftruncate', paths.get(fd))
      return libc.ftruncate(fd, length)
    },
    mkdir(path, mode) {
      changing('mkdir', path)
      return libc.mkdir(path, mode)
    },
    unlink(path) {
      changing('unlink', path)
      return libc.unlink(path)
    },
    getdents64(fd, ...rest) {
      const size = libc.getdents64(fd, ...rest)
      if (size === 0) scanning(paths.get(fd))
      return size
    },
    utimensat(directory, path, ...rest) {
      changing('utimensat', path)
      return libc.utimensat(directory, path, ...rest)
    },
  }
  return { ...real, libc: Object.setPrototypeOf(fragile, libc) }
})

/** Called at the end of each reading of a whole folder. */
const scanning = vi.fn()

let dataDir: string
beforeEach(() => {
  dataDir = fs.mkdtempSync(`${tmpdir()}/lease-store-`)
})
afterEach(() => {
  life = Number.POSITIVE_INFINITY
  beforeChange = () => {}
  fs.rmSync(dataDir, { recursive: true, force: true })
})

const confOf = (ipam: object = { subnet: '10.77.0.0/28' }): HostLocalConf => ({
  ...parseHostLocal({
    network: 'net',
    ipam: new Section({ dataDir, ...ipam }, 'ipam'),
    cniArgs: new Map(),
    cniVersion: '1.0.0',
  }),
  bootId: 'boot-1',
})
const of = (containerId: string, ifName = 'eth0') => ({ network: 'net', containerId, ifName })
const add = (conf: HostLocalConf, id: string) => allocate(conf, of(id)).ips.map(({ address }) => address.address)
const write = (name: string, text: string) => fs.writeFileSync(`${dataDir}/net/${name}`, text)
const leaseFiles = () => fs.readdirSync(`${dataDir}/net`).filter((name) => !/^l/.test(name))
const holders = () => leaseFiles().map((name) => fs.readFileSync(`${dataDir}/net/${name}`, 'utf8'))

describe('files of others', () => {
  test('a lease of the reference is found and released, whitespace around it ignored', () => {
    fs.mkdirSync(`${dataDir}/net`)
    write('10.77.0.2', 'c1\r\neth0\n ')
    const conf = confOf()
    expect(find(conf, of('c1'))).toEqual(['10.77.0.2'])
    expect(() => add(conf, 'c1')).toThrow('duplicate allocation')
    write('10.77.0.3', ' c2\r\neth0')
    expect(find(conf, of('c2'))).toEqual(['10.77.0.3'])
    release(conf, of('c1'))
    release(conf, of('c2'))
    expect(leaseFiles()).toEqual([])
  })

  test('a change made within the same second as ours is noticed', () => {
    const conf = confOf()
    for (let i = 0; i < 5; i++) {
      add(conf, `ours${i}`)
      const address = `10.77.0.${i + 8}`
      write(address, `theirs${i}\r\neth0`)
      expect(find(conf, of(`theirs${i}`))).toEqual([address])
      fs.rmSync(`${dataDir}/net/${address}`)
      expect(find(conf, of(`theirs${i}`))).toEqual([])
    }
  })

  test('the oldest format matches when nothing newer does', () => {
    const conf = confOf()
    fs.mkdirSync(`${dataDir}/net`)
    write('10.77.0.9', 'c1')
    check(conf, of('c1', 'eth5'))
    write('10.77.0.10', 'c1\r\neth0')
    release(conf, of('c1'))
    expect(leaseFiles()).toEqual(['10.77.0.9'])
    release(conf, of('c1'))
    expect(leaseFiles()).toEqual([])
  })

  test('an empty file and one of zero bytes are crashed claims; other files are left alone', () => {
    const conf = confOf({ subnet: '10.77.0.0/30' })
    fs.mkdirSync(`${dataDir}/net/10.77.0.3`, { recursive: true })
    write('10.77.0.2', '')
    write('notes', 'c1\r\neth0')
    expect(add(conf, 'c1')).toEqual(['10.77.0.2'])
    write('10.77.0.2', '\0\0\0')
    write('touch', '')
    expect(add(conf, 'c2')).toEqual(['10.77.0.2'])
    collect(conf, [])
    expect(leaseFiles().sort()).toEqual(['10.77.0.3', 'notes', 'touch'])
  })

  test('a holder that no attachment can have is honoured by ADD and released by GC', () => {
    fs.mkdirSync(`${dataDir}/net`)
    write('10.77.0.2', 'what is this')
    write('10.77.0.3', 'a\r\nb\r\nc')
    expect(add(confOf(), 'c1')).toEqual(['10.77.0.4'])
    collect(confOf(), [{ containerId: 'c1', ifName: 'eth0' }])
    expect(leaseFiles()).toEqual(['10.77.0.4'])
  })

  test('the folder removed by hand is made again', () => {
    const conf = confOf()
    add(conf, 'c1')
    fs.rmSync(`${dataDir}/net`, { recursive: true })
    expect(find(conf, of('c1'))).toEqual([])
    expect(add(conf, 'c1')).toEqual(['10.77.0.2'])
  })

  test('an index removed or damaged by hand is made again', () => {
    const conf = confOf()
    add(conf, 'c1')
    fs.rmSync(`${dataDir}/.ns-net`, { recursive: true })
    expect(find(conf, of('c1'))).toEqual(['10.77.0.2'])
    fs.writeFileSync(`${dataDir}/.ns-net/net/stamp`, 'x')
    expect(find(conf, of('c1'))).toEqual(['10.77.0.2'])
  })
})

describe('cost', () => {
  test('nothing reads the folder while we are alone', () => {
    const conf = confOf({ subnet: '10.77.0.0/16' })
    add(conf, 'first')
    scanning.mockClear()
    for (let i = 0; i < 50; i++) add(conf, `c${i}`)
    for (let i = 0; i < 50; i++) check(conf, of(`c${i}`))
    for (let i = 0; i < 50; i++) release(conf, of(`c${i}`))
    release(conf, of('c0'))
    expect(() => add(conf, 'first')).toThrow('duplicate')
    expect(scanning).not.toHaveBeenCalled()
  })

  test('a failed ADD does not make the next one read the folder', () => {
    const conf = confOf({ subnet: '10.77.0.0/30' })
    add(conf, 'c1')
    scanning.mockClear()
    expect(() => add(conf, 'c2')).toThrow('no IP addresses available')
    expect(find(conf, of('c1'))).toEqual(['10.77.0.2'])
    expect(scanning).not.toHaveBeenCalled()
  })

  test('a crowded range is read once, not asked address by address', () => {
    const conf = confOf({ subnet: '10.77.0.0/22' })
    fs.mkdirSync(`${dataDir}/net`)
    for (let i = 2; i < 1000; i++) write(`10.77.${i >> 8}.${i & 255}`, `x${i}\r\neth0`)
    find(conf, of('x2'))
    scanning.mockClear()
    expect(add(conf, 'c1')).toEqual(['10.77.3.232'])
    expect(scanning).toHaveBeenCalledTimes(1)
  })
})

describe('boots', () => {
  const rebooted = (conf: HostLocalConf) => ({ ...conf, bootId: 'boot-2' })

  test('our leases end with the boot, those of the reference stay', () => {
    const conf = confOf()
    add(conf, 'ours')
    write('10.77.0.9', 'theirs\r\neth0')
    add(conf, 'ours2')
    expect(find(rebooted(conf), of('ours'))).toEqual([])
    expect(leaseFiles()).toEqual(['10.77.0.9'])
    expect(add(rebooted(conf), 'new')).toEqual(['10.77.0.4'])
    expect(
      leases(rebooted(conf))
        .map(({ containerId }) => containerId)
        .sort(),
    ).toEqual(['new', 'theirs'])
  })

  test('a lease that somebody else made after the boot under the same name stays', () => {
    const conf = confOf()
    add(conf, 'c1')
    const later = new Date(Date.now() + 60_000)
    fs.utimesSync(`${dataDir}/net/10.77.0.2`, later, later)
    expect(find(rebooted(conf), of('c1'))).toEqual(['10.77.0.2'])
  })

  test('an address that changed hands stays with its new holder', () => {
    const conf = confOf()
    add(conf, 'c1')
    write('10.77.0.2', 'theirs\r\neth0')
    add(rebooted(conf), 'c2')
    expect(find(rebooted(conf), of('theirs'))).toEqual(['10.77.0.2'])
  })

  test('without a boot id nothing is taken for ended', () => {
    const conf = { ...confOf(), bootId: 'unknown' }
    add(conf, 'c1')
    expect(find(rebooted(conf), of('c1'))).toEqual(['10.77.0.2'])
  })
})

// A process killed at any point: every later change of its own is refused, then another process goes on.
describe('killed at every step', () => {
  const conf = () => confOf({ subnet: '10.77.0.0/28', ranges: [[{ subnet: 'fd00::/64' }]] })

  function killedEverywhere(prepare: () => void, work: () => void, examine: (step: number) => void): void {
    let done = false
    for (let step = 0; !done; step++) {
      prepare()
      life = step
      try {
        work()
        done = true
      } catch {
        // killed at this step
      }
      life = Number.POSITIVE_INFINITY
      examine(step)
      fs.rmSync(dataDir, { recursive: true })
      if (done) expect(step).toBeGreaterThan(3)
    }
  }

  /** Nobody shares an address, DEL leaves nothing of the killed one, and the one before it is as it was. */
  function expectOrder(step: number): void {
    const later = add(conf(), 'later')
    expect(new Set([...later, ...find(conf(), of('before'))]).size, `step ${step}`).toBe(4)
    expect(holders(), `step ${step}`).not.toContain('')
    release(conf(), of('killed'))
    expect(holders().sort(), `step ${step}`).toEqual(
      ['before', 'before', 'later', 'later'].map((id) => `${id}\r\neth0`),
    )
    expect(add(conf(), 'killed')).toHaveLength(2)
  }

  const withBefore = () => {
    add(conf(), 'before')
  }

  test('ADD', () => {
    killedEverywhere(withBefore, () => add(conf(), 'killed'), expectOrder)
  })

  test('the very first ADD', () => {
    killedEverywhere(
      () => {},
      () => add(conf(), 'killed'),
      (step) => {
        withBefore()
        expectOrder(step)
      },
    )
  })

  test('ADD, then a reboot instead of DEL: nothing is left', () => {
    killedEverywhere(
      withBefore,
      () => add(conf(), 'killed'),
      (step) => {
        add({ ...conf(), bootId: 'boot-2' }, 'later')
        expect(holders(), `step ${step}`).toEqual(['later\r\neth0', 'later\r\neth0'])
      },
    )
  })

  const withBoth = () => {
    withBefore()
    add(conf(), 'killed')
  }

  test('DEL', () => {
    killedEverywhere(withBoth, () => release(conf(), of('killed')), expectOrder)
  })

  test('GC', () => {
    killedEverywhere(withBoth, () => collect(conf(), [{ containerId: 'before', ifName: 'eth0' }]), expectOrder)
  })

  test('the index being made from leases of others', () => {
    killedEverywhere(
      () => {
        withBoth()
        write('10.77.0.9', 'foreign\r\neth0')
      },
      () => find(conf(), of('foreign')),
      (step) => {
        release(conf(), of('foreign'))
        expectOrder(step)
      },
    )
  })

  test('the first call after a reboot', () => {
    killedEverywhere(
      withBoth,
      () => find({ ...conf(), bootId: 'boot-2' }, of('killed')),
      (step) => {
        expect(leases({ ...conf(), bootId: 'boot-2' }), `step ${step}`).toEqual([])
      },
    )
  })
})

describe('failures', () => {
  const errnos = { EPERM: 1, ENOSPC: 28 }
  const failing = (code: keyof typeof errnos, match: (call: string, path: string) => boolean) => {
    beforeChange = (call, path) => {
      if (match(call, path)) throw new KernelError(call, path, errnos[code])
    }
  }

  test('ADD on a full disk takes nothing and says so', () => {
    const conf = confOf({ subnet: '10.77.0.0/28', ranges: [[{ subnet: 'fd00::/64' }]] })
    add(conf, 'c1')
    failing('ENOSPC', (_call, path) => path.endsWith('/last_reserved_ip.1'))
    expect(() => add(conf, 'c2')).toThrow(
      expect.objectContaining({ kind: 'io', details: 'the file system is full; free some space' }),
    )
    beforeChange = () => {}
    expect(holders()).toEqual(['c1\r\neth0', 'c1\r\neth0'])
    expect(find(conf, of('c2'))).toEqual([])
  })

  test.each([
    ['stays full', () => true],
    ['has room again once a lease is gone', () => leaseFiles().length > 1],
  ])('DEL on a full disk that %s releases, and the index does not pass for complete', (_, full) => {
    const conf = confOf()
    add(conf, 'c1')
    write('10.77.0.9', 'theirs\r\neth0')
    const writes = ['open', 'write']
    failing('ENOSPC', (call, path) => writes.includes(call) && !path.endsWith('/lock') && full())
    release(conf, of('c1'))
    beforeChange = () => {}
    expect(holders()).toEqual(['theirs\r\neth0'])
    expect(find(conf, of('theirs'))).toEqual(['10.77.0.9'])
  })

  test('DEL and GC go on past what they cannot remove, and list it', () => {
    const conf = confOf({ subnet: '10.77.0.0/28', ranges: [[{ subnet: 'fd00::/64' }]] })
    add(conf, 'c1')
    add(conf, 'c2')
    failing('EPERM', (call, path) => call === 'unlink' && path.endsWith('.2'))
    expect(() => release(conf, of('c1'))).toThrow(/1 of 2 leases could not be released: unlink .*: EPERM/)
    expect(() => collect(conf, [])).toThrow(/1 of 3 leases could not be released: unlink .*: EPERM/)
    beforeChange = () => {}
    expect(leaseFiles()).toEqual(['10.77.0.2'])
    release(conf, of('c1'))
    expect(leaseFiles()).toEqual([])
  })

  test('a folder whose times may not be set is read each time', () => {
    const conf = confOf()
    failing('EPERM', (call) => call === 'utimensat')
    add(conf, 'c1')
    write('10.77.0.9', 'theirs\r\neth0')
    expect(find(conf, of('theirs'))).toEqual(['10.77.0.9'])
    release(conf, of('c1'))
    expect(holders()).toEqual(['theirs\r\neth0'])
  })

  test('a store that stays locked is busy', () => {
    const conf = { ...confOf(), lockTimeoutMs: 20 }
    add(conf, 'c1')
    const error = withLock(`${dataDir}/net/lock`, 100, () => {
      try {
        return release(conf, of('c1'))
      } catch (error) {
        return error
      }
    })
    expect(error).toBeInstanceOf(IpamError)
    expect(error).toMatchObject({
      kind: 'busy',
      message: `${dataDir}/net/lock has been held by another process for 0.02 s`,
    })
  })

  test.each(['../x', 'a/b', '.hidden', '', 'a b'])('no network is called %j', (network) => {
    expect(() => find({ network, dataDir }, of('c1'))).toThrow("can't be a file name")
  })

  test.each(['../x', 'a b', '', 'a\nb'])('no container is called %j', (containerId) => {
    const claim = () => withStore(confOf(), (store) => store.claim(of(containerId), [{ address: '10.77.0.2', set: 0 }]))
    expect(claim).toThrow("can't be a file name")
    expect(leaseFiles()).toEqual([])
  })
})
