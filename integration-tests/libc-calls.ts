import { readFile, write } from '../netlink-lib/files.ts'
import { lastErrno, libc } from '../netlink-lib/libc.ts'

/*
 * Every call of netlink-lib/libc.ts, done right and done wrong; prints what each returned, with errno where it failed, as
 * JSON. Run by bun with either of the two foreign function interfaces, and by the plugins' engine, which has only what
 * plugins call: libc.test.ts. Uses a directory of its own, named by DIRECTORY.
 */
declare const NS_NET_ENGINE: boolean | undefined

type Outcome = number | string | readonly Outcome[]

const outcomes: Record<string, Outcome> = {}
/** The returned number, or the errno of a failed call. */
const of = (returned: number): Outcome => (returned === -1 ? `errno ${lastErrno()}` : returned)
/** For descriptors and addresses, which need not be the same twice. */
const positive = (returned: number): Outcome => (returned > 0 ? 'positive' : of(returned))
const note = (name: string, outcome: Outcome) => {
  outcomes[name] = outcome
}

const directory = process.env.DIRECTORY!
const path = (name: string) => `${directory}/${name}`
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('latin1')
const cwd = -100 // AT_FDCWD

function files(): void {
  const fd = libc.open(path('naïve'), 0o102, 0o640) // O_CREAT | O_RDWR
  note('open', positive(fd))
  note('write', of(libc.write(fd, Buffer.from('..hello').subarray(2), 5)))
  note('write nothing', of(libc.write(fd, Buffer.alloc(0), 0)))
  note('ftruncate', of(libc.ftruncate(fd, 3)))
  note('ftruncate wrong', [of(libc.ftruncate(fd, -1)), of(libc.ftruncate(fd, -(2 ** 40)))])
  note('what is there', readFile(path('naïve')))
  note('flock', of(libc.flock(fd, 2 | 4))) // LOCK_EX | LOCK_NB
  const other = libc.open(path('naïve'), 0, 0)
  note('flock taken', of(libc.flock(other, 2 | 4)))
  const read = Buffer.from('........')
  note('read', [of(libc.read(other, read.subarray(1), 7)), text(read)])
  note('read at the end', of(libc.read(other, read, 8)))
  note('read into nothing', of(libc.read(other, Buffer.alloc(0), 0)))
  note('close', [of(libc.close(fd)), of(libc.close(other)), of(libc.close(fd))])
  note('open again', [of(libc.open(path('naïve'), 0o302, 0o640)), of(libc.open(path('none'), 0, 0))]) // O_CREAT | O_EXCL
  note('open with a zero', of(libc.open(`${path('naïve')}\0.txt`, 0, 0)))
  note('open a long name', of(libc.open(path('x'.repeat(300)), 0, 0)))

  const times = Buffer.from(BigInt64Array.of(1_000_000_000n, 5n, 4_000_000_000n, 999_999_999n).buffer)
  note('utimensat', [of(libc.utimensat(cwd, path('naïve'), times, 0)), of(libc.utimensat(cwd, path('none'), times, 0))])
  const status = Buffer.alloc(256)
  note('statx', of(libc.statx(cwd, path('naïve'), 0, 0x7ff, status)))
  note('statx says', [status.readUInt16LE(28), Number(status.readBigUInt64LE(40)), String(status.readBigInt64LE(112))])
  note('statx wrong', [of(libc.statx(cwd, path('none'), 0, 0x7ff, status)), of(libc.statx(-1, '', 0x1000, 1, status))])
  note('access', [of(libc.access(directory, 2)), of(libc.access(path('none'), 0)), of(libc.access(path('naïve/'), 0))])
  note('mkdir', [
    of(libc.mkdir(path('d'), 0o755)),
    of(libc.mkdir(path('d'), 0o755)),
    of(libc.mkdir(path('e/f'), 0o755)),
  ])
  const rename = (from: string, to: string) => of(libc.rename(path(from), path(to)))
  note('rename', [rename('naïve', 'd'), rename('none', 'b'), rename('naïve', 'ä'), rename('ä', 'naïve')])
  const folder = libc.open(path('d'), 0, 0)
  const entries = Buffer.alloc(1024)
  const size = libc.getdents64(folder, entries, 1024)
  note('getdents64', [of(size), entries.readUInt16LE(16), entries.readUInt8(18), text(entries.subarray(19, 21))])
  note('getdents64 wrong', [
    of(libc.getdents64(folder, entries, 1024)),
    of(libc.getdents64(-1, entries, 1024)),
    of(libc.getdents64(2, entries, 1024)),
  ])
  libc.close(folder)
  note('unlink', [of(libc.unlink(path('naïve'))), of(libc.unlink(path('naïve'))), of(libc.unlink(path('d')))])
  note('rmdir', [of(libc.rmdir(directory)), of(libc.rmdir(path('d'))), of(libc.rmdir(path('d')))])
}

/** struct sockaddr_nl, and one RTM_GETLINK for lo by its index. */
function sockets(): void {
  const address = Buffer.alloc(12)
  address.writeUInt16LE(16, 0)
  const request = Buffer.alloc(32)
  request.writeUInt32LE(32, 0)
  request.writeUInt16LE(18, 4)
  request.writeUInt16LE(5, 6)
  request.writeUInt32LE(77, 8)
  request.writeUInt32LE(1, 20)
  const fd = libc.socket(16, 3 | 0o2000000, 0) // AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE
  note('socket', positive(fd))
  note('socket wrong', [of(libc.socket(16, 3, 99)), of(libc.socket(-1, 3, 0)), of(libc.socket(2 ** 31, 3, 0))])
  note('bind', of(libc.bind(fd, address, 12)))
  note('bind wrong', [
    of(libc.bind(fd, address, 2)),
    of(libc.bind(-1, address, 12)),
    of(libc.bind(fd, address, 2 ** 32 - 1)),
  ])
  const one = Buffer.from([1, 0, 0, 0])
  note('setsockopt', [of(libc.setsockopt(fd, 270, 11, one, 4)), of(libc.setsockopt(fd, 270, 9999, one, 4))])
  const [value, length] = [Buffer.alloc(4), Buffer.from([4, 0, 0, 0])]
  note('getsockopt', [of(libc.getsockopt(fd, 1, 3, value, length)), text(value), text(length)]) // SO_TYPE
  note('getsockopt wrong', of(libc.getsockopt(fd, 1, 9999, value, length)))
  const answer = Buffer.alloc(64 * 1024)
  const reply = (): Outcome => {
    const size = libc.recv(fd, answer, answer.length, 0x60) // MSG_DONTWAIT | MSG_TRUNC
    return size === -1 ? of(size) : [answer.readUInt16LE(4), answer.readUInt32LE(8)]
  }
  note('recv before', reply())
  note('send', of(libc.send(fd, request, 32, 0)))
  note('recv', [reply(), reply(), reply()])
  note('sendto', of(libc.sendto(fd, request, 32, 0, address, 12)))
  note('recv after sendto', [reply(), reply()])
  note('send wrong', [of(libc.send(-1, request, 32, 0)), of(libc.send(fd, request, 0, 1))])
  note('sendto wrong', [
    of(libc.sendto(fd, request, 32, 0, address, 3)),
    of(libc.sendto(-1, request, 32, 0, address, 12)),
  ])
  note('recv wrong', of(libc.recv(99999, answer, 1, 0)))
  libc.close(fd)
}

function memory(): void {
  const size = 2 ** 33 // more than 32 bits tell
  const address = libc.mmap(null, size, 0, 0x4022, -1, 0) // PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
  note('mmap', [
    positive(address),
    address > 2 ** 32 ? 'far' : 'near',
    Number.isSafeInteger(address) ? 'safe' : 'not safe',
  ])
  note('munmap', [of(libc.munmap(address, size)), of(libc.munmap(address + 1, size))])
  note('mmap wrong', [of(libc.mmap(null, 0, 0, 0x22, -1, 0)), of(libc.mmap(null, 4096, 1, 2, 99999, 2 ** 40))])
}

function namespaces(): void {
  const own = libc.open('/proc/thread-self/ns/net', 0, 0)
  note('ioctl', of(libc.ioctl(own, 0xb703))) // NS_GET_NSTYPE
  note('ioctl wrong', [of(libc.ioctl(own, 0)), of(libc.ioctl(own, 0xffffffff)), of(libc.ioctl(-1, 0xb703))])
  note('setns', [of(libc.setns(own, 0x40000000)), of(libc.setns(own, 0x20000)), of(libc.setns(-1, 0))])
  note('unshare', [of(libc.unshare(0x40000000)), of(libc.unshare(0x1)), of(libc.unshare(2 ** 31))])
  note('setns back', of(libc.setns(own, 0x40000000)))
  note('unshare mounts', of(libc.unshare(0x20000)))
  note('mount', [
    of(libc.mount('', '/', 'none', 0x44000, null)),
    of(libc.mount('tmpfs', directory, 'tmpfs', 0, 'size=4096')),
  ])
  note('mount null', [
    of(libc.mount(null, directory, null, 0x1020, null)),
    of(libc.mount(null, path('none'), null, 0x20, null)),
  ])
  note('mount wrong', [
    of(libc.mount('none', directory, 'nonesuch', 0, null)),
    of(libc.mount('tmpfs', directory, 'tmpfs', 0, 'size=much')),
    of(libc.mount('tm\0pfs', directory, 'tmpfs', 0, null)),
    of(libc.mount('tmpfs', directory, 'tmpfs', 2 ** 40, null)),
  ])
  note('umount2', [of(libc.umount2(directory, 2)), of(libc.umount2(directory, 2)), of(libc.umount2(path('none'), 0))])
}

function time(): void {
  const sleep = (nanoseconds: number) =>
    of(libc.nanosleep(Buffer.from(Uint32Array.of(0, 0, nanoseconds, 0).buffer), null))
  note('nanosleep', [sleep(1), sleep(1e9)])
}

/** Bytes that are not UTF-8, and text that has none. */
function encodings(): void {
  const cases = [
    [0xff, 0x41],
    [0xc3],
    [0xc3, 0x28],
    [0xe2, 0x82, 0x41],
    [0xf0, 0x9f, 0x98, 0x80],
    [0xef, 0xbb, 0xbf, 0x41],
    [0],
  ]
  note(
    'decoded',
    cases.map((bytes) => [...Buffer.from(bytes).toString()].map((sign) => sign.codePointAt(0)!)),
  )
  note(
    'encoded',
    ['ä€😀', '\0a'].map((each) => Buffer.from(each).toString('hex')),
  )
}

function processes(): void {
  note('signal', [of(libc.signal(12, 1)), of(libc.signal(12, 0)), of(libc.signal(12, 0)), of(libc.signal(999, 0))])
  note('execve wrong', [of(libc.execve(path('none'), ['x', null], [null])), of(libc.execve(directory, [null], [null]))])
  note('execve with a zero', of(libc.execve('/bin/sh', ['sh', '-c', 'exit\x001', null], [null])))
}

/** Thousands of failing calls among garbage, calls that succeed and code that becomes hot: each must tell its own errno. */
function load(): void {
  const failing: readonly (readonly [errno: number, call: () => number])[] = [
    [9, () => libc.close(-1)],
    [2, () => libc.open('/nonesuch', 0, 0)],
    [93, () => libc.socket(16, 3, 99)],
    [22, () => libc.umount2('/proc', 0x100)],
    [20, () => libc.mkdir('/dev/null/x', 0)],
  ]
  const garbage: unknown[] = []
  const wrong: Outcome[] = []
  for (let i = 0; i < 50_000; i++) {
    const [errno, call] = failing[i % failing.length]!
    garbage[i % 97] = new Array(i % 512).fill({ i })
    garbage[i % 89] = Buffer.alloc(i % 20_000)
    if (call() !== -1 || lastErrno() !== errno) wrong.push([i, errno, lastErrno()])
    libc.access('/', 0)
  }
  note('load', wrong.slice(0, 10))
}

files()
sockets()
namespaces()
time()
encodings()
load()
if (typeof NS_NET_ENGINE === 'undefined') {
  memory()
  processes()
}
write(1, `${JSON.stringify(outcomes)}\n`, 'stdout')
// The last one: becomes another program, which prints what it was given.
if (typeof NS_NET_ENGINE === 'undefined')
  libc.execve('/bin/sh', ['sh', '-c', 'echo "$0 $1 $ä"; env', 'zero', 'öne', null], ['a=b', null])
