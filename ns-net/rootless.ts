import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { withLock } from '../netlink-lib/flock.ts'
import { pause } from '../netlink-lib/pause.ts'
import { become } from './enter.ts'
import { CliError } from './errors.ts'
import { removeIfEmpty } from './labs.ts'
import { listProcesses, readNamespaces } from './processes.ts'
import { findProgram, requirePrograms } from './run/programs.ts'

/**
 * ns-net without root: a host of the user's own, in a user namespace with its network, mounts and everything that ns-net
 * writes to in memory. A sleeping process holds it; ns-net starts that when needed and goes inside for each command.
 */

/** With `--rootless`, goes inside or stops; returns the arguments where there is nothing of that kind to do. */
export function goRootless(argv: readonly string[]): readonly string[] {
  const at = positionOf(argv)
  if (at < 0) return argv
  const rest = argv.toSpliced(at, 1)
  const verb = rest.find((word) => !word.startsWith('-'))
  if (verb === undefined || verb === 'help' || rest.includes('--help')) return rest
  const directory = stateDirectory()
  if (verb === 'stop') {
    fs.writeSync(1, stop(directory, rest))
    process.exit(0)
  }
  const holder = findHolder(directory) ?? startHolder(directory, !rest.includes('--json'))
  if (isInside(holder)) return rest
  return goInside(holder, rest)
}

/** In front of the verb, or behind it where that passes no words on to a command; never behind `--`. */
function positionOf(argv: readonly string[]): number {
  const end = argv.indexOf('--')
  const own = end < 0 ? argv : argv.slice(0, end)
  const verb = own.findIndex((word) => !word.startsWith('-'))
  const passesOn = ['exec', 'run'].includes(own[verb] ?? '')
  return (passesOn ? own.slice(0, verb) : own).indexOf('--rootless')
}

/** The process that keeps the namespaces, and the one that connects them. */
interface Holder {
  readonly pid: number
  /** Of /proc/PID/stat: a number is used again, a number at a time is not. */
  readonly started: string
  readonly connector?: { readonly pid: number; readonly started: string }
}

const fileOf = (directory: string) => `${directory}/rootless.json`

/** The first of these where a host of ours is known, else the first that can be made and is ours alone. */
function stateDirectory(): string {
  const { XDG_RUNTIME_DIR: runtime, XDG_STATE_HOME: state, HOME: home } = process.env
  const candidates = [
    ...(runtime ? [`${runtime}/ns-net`] : []),
    ...(state || home ? [`${state || `${home}/.local/state`}/ns-net`] : []),
    `/tmp/ns-net-${process.getuid!()}`,
  ]
  const found =
    candidates.find((directory) => isOurs(directory) && fs.existsSync(fileOf(directory))) ??
    candidates.find((directory) => canBeMade(directory) && isOurs(directory))
  if (found) return found
  throw new CliError(
    'permission',
    `none of these is a directory that only this user can write to: ${candidates.join(', ')}`,
    'set XDG_RUNTIME_DIR to a directory of your own',
  )
}

/** Whoever else could write there could lead us into namespaces of his. */
function isOurs(directory: string): boolean {
  try {
    const status = fs.lstatSync(directory)
    return status.isDirectory() && status.uid === process.getuid!() && (status.mode & 0o022) === 0
  } catch {
    return false // absent, or below another user's directory
  }
}

function canBeMade(directory: string): boolean {
  try {
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 })
    return true
  } catch {
    return false // the next place
  }
}

function findHolder(directory: string): Holder | undefined {
  try {
    const holder = JSON.parse(fs.readFileSync(fileOf(directory), 'utf8')) as Holder
    return isAlive(holder) ? holder : undefined
  } catch (error) {
    if (error instanceof SyntaxError || (error as { code?: string }).code === 'ENOENT') return undefined
    throw error
  }
}

const isAlive = ({ pid, started }: Pick<Holder, 'pid' | 'started'>): boolean => startOf(pid) === started

/** Clock ticks from boot to the start of a process; undefined when there is none, or it has ended unnoticed (zombie). */
function startOf(pid: number): string | undefined {
  try {
    const fields = fs
      .readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]
  } catch {
    return undefined
  }
}

const isInside = ({ pid }: Holder): boolean => readNamespaces(pid).user === readNamespaces(process.pid).user

/**
 * What ns-net writes to, in memory: /run, /var/lib/cni and /etc, which shows the machine's files and takes changes. What
 * /etc/resolv.conf and /etc/hosts say is read before, as they may be links into /run; of systemd's resolver the servers
 * behind it, as its own address leads nowhere from here.
 */
const prologue = `
  set -e
  mount --make-rprivate /
  resolv_conf=$(cat /run/systemd/resolve/resolv.conf 2>/dev/null || cat /etc/resolv.conf 2>/dev/null || :)
  hosts=$(cat /etc/hosts 2>/dev/null || :)
  cd "/run/user/$1" 2>/dev/null || cd /
  mount -t tmpfs -o mode=755 tmpfs /run
  overlay() {
    mkdir -p "/run/layers$1/upper" "/run/layers$1/work"
    mount -t overlay -o "lowerdir=$1,upperdir=/run/layers$1/upper,workdir=/run/layers$1/work" overlay "$1" 2>/dev/null
  }
  if ! overlay /etc; then
    cp -a /etc/. /run/layers/etc/upper/ 2>/dev/null || :
    mount --bind /run/layers/etc/upper /etc
  fi
  rm -f /etc/resolv.conf /etc/hosts
  printf '%s\\n' "$resolv_conf" >/etc/resolv.conf
  printf '%s\\n' "$hosts" >/etc/hosts
  [ ! -d /etc/netns ] || mount -t tmpfs -o mode=755 tmpfs /etc/netns
  mkdir -p /etc/netns
  [ -d /var/lib/cni ] || overlay /var/lib || mount -t tmpfs -o mode=755 tmpfs /var/lib
  mkdir -p /var/lib/cni
  mount -t tmpfs -o mode=755 tmpfs /var/lib/cni
  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir -p /run/lock
  if [ "$PWD" != / ]; then
    mkdir -p "/run/user/$1"
    mount -c --rbind . "/run/user/$1"
    cd /
  fi
  [ -z "$(command -v ip)" ] || ip link set lo up
  echo ready
  exec sleep 2000000000 >/dev/null 2>&1`

const withSbin = (): NodeJS.ProcessEnv => ({
  ...process.env,
  PATH: `${process.env.PATH || '/usr/bin:/bin'}:/usr/local/sbin:/usr/sbin:/sbin`,
})

function startHolder(directory: string, speaks: boolean): Holder {
  return withLock(`${directory}/rootless.lock`, 30_000, () => {
    const other = findHolder(directory)
    if (other) return other
    const log = `${directory}/rootless.log`
    // newuidmap gives the namespace the numbers that /etc/subuid has for this user, else it has root and nobody else.
    const tries = findProgram('newuidmap') ? [['--map-auto'], []] : [[]]
    const pid = tries.reduce<number | undefined>((found, mapping) => found ?? startUnshare(mapping, log), undefined)
    if (pid === undefined)
      throw new CliError(
        'permission',
        refusalOf(linesOf(log).join('; ')),
        'or run ns-net with sudo and without --rootless',
      )
    const connector = connect(pid, log)
    const holder: Holder = { ...identify(pid), ...(connector !== undefined && { connector: identify(connector) }) }
    fs.writeFileSync(fileOf(directory), JSON.stringify(holder), { mode: 0o600 })
    if (speaks) fs.writeSync(2, welcome(holder, linesOf(log).join('; ')))
    return holder
  })
}

const identify = (pid: number): { pid: number; started: string } => ({ pid, started: startOf(pid) ?? '' })

/** Undefined when this machine refuses. */
function startUnshare(mapping: readonly string[], log: string): number | undefined {
  const { unshare, sh } = requirePrograms('unshare', 'sh', 'nsenter', 'mount')
  const namespaces = ['--user', '--map-root-user', ...mapping, '--net', '--mount']
  const pid = startDetached([unshare, ...namespaces, '--', sh, '-c', prologue, 'sh', String(process.getuid!())], log)
  return waitFor(pid, () => linesOf(log).at(-1) === 'ready') ? pid : undefined
}

/** Connects the holder's network to the outside by a program that needs no root either; undefined when there is none. */
function connect(pid: number, log: string): number | undefined {
  const noPorts = ['-t', 'none', '-u', 'none', '-T', 'none', '-U', 'none']
  const [program, ...args] = findProgram('pasta')
    ? ['pasta', '--config-net', '--foreground', '--quiet', '--no-map-gw', ...noPorts, String(pid)]
    : findProgram('slirp4netns')
      ? ['slirp4netns', '--configure', '--disable-host-loopback', '--mtu=1500', String(pid), 'tap0']
      : []
  if (program === undefined) return undefined
  const connector = startDetached([findProgram(program)!, ...args], log)
  const hasDefaultRoute = () => /^\S+\t00000000\t/m.test(fs.readFileSync(`/proc/${pid}/net/route`, 'utf8'))
  return waitFor(connector, hasDefaultRoute) ? connector : undefined
}

/**
 * Starts a program that goes on without us, in a session of its own, and returns its pid. Through a shell that ends at
 * once, so that it is no child of what ns-net becomes.
 */
function startDetached(command: readonly string[], log: string): number {
  const { sh, setsid } = requirePrograms('sh', 'setsid')
  const args = ['-c', '"$@" </dev/null >"$0" 2>&1 & echo $!', log, setsid, ...command]
  const { stdout } = spawnSync(sh, args, { encoding: 'utf8', env: withSbin() })
  return Number(stdout)
}

/** False when the process ends before, or takes more than ten seconds. */
function waitFor(pid: number, isReady: () => boolean): boolean {
  for (let i = 0; i < 1000 && startOf(pid) !== undefined; i++) {
    if (isReady()) return true
    pause(10)
  }
  return false
}

const linesOf = (file: string): string[] => fs.readFileSync(file, 'utf8').trim().split('\n')

/** Which switch of the machine it is, if one says so (docs/containers.md). */
function refusalOf(stderr: string): string {
  const switches: Readonly<Record<string, string>> = {
    'user/max_user_namespaces': '0',
    'kernel/unprivileged_userns_clone': '0',
    'kernel/apparmor_restrict_unprivileged_userns': '1',
  }
  const found = Object.entries(switches).find(([name, off]) => settingOf(name) === off)
  if (!found) return `this machine refuses user namespaces: ${stderr}`
  const [name, off] = found
  const [setting, on] = [name.replace('/', '.'), name.startsWith('user') ? 15_000 : 1 - Number(off)]
  return `user namespaces are switched off for this user (${setting} is ${off}): sudo sysctl -w ${setting}=${on}`
}

function settingOf(name: string): string | undefined {
  try {
    return fs.readFileSync(`/proc/sys/${name}`, 'utf8').trim()
  } catch {
    return undefined // this kernel has no such switch
  }
}

function welcome({ pid, connector }: Holder, why: string): string {
  const outside = connector
    ? ''
    : findProgram('pasta') || findProgram('slirp4netns')
      ? `rootless: nothing outside can be reached: ${why}\n`
      : 'rootless: nothing outside can be reached without pasta (package passt) or slirp4netns\n'
  return `rootless: process ${pid} keeps a host of your own; to end it: ns-net --rootless stop\n${outside}`
}

/** Goes on inside, in the same directory if it is there, and as the same process. */
function goInside({ pid }: Holder, argv: readonly string[]): never {
  const { nsenter, sh } = requirePrograms('nsenter', 'sh')
  const enter = [nsenter, `--target=${pid}`, '--user', '--preserve-credentials', '--mount', '--net', '--']
  const stay = [sh, '-c', 'cd "$0" 2>/dev/null || cd /; exec "$@"', process.cwd()]
  return become([...enter, ...stay, process.execPath, ...argv], withSbin())
}

/** Ends the holder, and with it all that is inside; refused while there is something. */
function stop(directory: string, argv: readonly string[]): string {
  const holder = findHolder(directory)
  if (!holder) throw new CliError('notFound', 'no rootless host runs', 'ns-net --rootless add NAME starts one')
  const { user } = readNamespaces(holder.pid)
  const keepers = [holder.pid, holder.connector?.pid]
  const inside = listProcesses().filter(({ pid, namespaces }) => namespaces.user === user && !keepers.includes(pid))
  const labs = labsOf(holder)
  if (!argv.includes('--force') && (labs.length > 0 || inside.length > 0)) {
    const what = [...labs.map((lab) => `lab ${lab}`), ...inside.slice(0, 10).map(({ pid }) => `process ${pid}`)]
    throw new CliError(
      'conflict',
      `still inside: ${what.join(', ')}`,
      'ns-net --rootless stop --force ends them as well',
    )
  }
  const connectors = holder.connector && isAlive(holder.connector) ? [holder.connector.pid] : []
  const all = [...inside.map(({ pid }) => pid), ...connectors, holder.pid]
  for (const pid of all) killIfThere(pid)
  for (const pid of all) waitFor(pid, () => false)
  for (const file of ['rootless.json', 'rootless.log', 'rootless.lock'])
    fs.rmSync(`${directory}/${file}`, { force: true })
  removeIfEmpty(directory)
  const json = { stopped: true, pid: holder.pid }
  return argv.includes('--json') ? `${JSON.stringify(json, undefined, 2)}\n` : 'rootless host  stopped\n'
}

function labsOf({ pid }: Holder): string[] {
  const directory = `/proc/${pid}/root/run/ns-net/labs`
  const files = fs.existsSync(directory) ? fs.readdirSync(directory) : []
  return files.filter((file) => file.endsWith('.json')).map((file) => file.slice(0, -'.json'.length))
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // it ended by itself
  }
}
