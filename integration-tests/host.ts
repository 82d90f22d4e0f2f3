import { type ChildProcess, type SpawnSyncOptionsWithStringEncoding, spawn, spawnSync } from 'node:child_process'
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { TestContext } from 'vitest'
import { patience } from './patience.ts'
import { type Snapshot, type SnapshotOptions, takeSnapshot } from './snapshot.ts'

/** Where `npm run build` puts the executables. */
export const executables = fileURLToPath(new URL('../dist/bin', import.meta.url))
/** Where Debian's containernetworking-plugins puts the reference set. */
export const referencePlugins = '/usr/lib/cni'

const prologue = fileURLToPath(new URL('../scripts/private-host.sh', import.meta.url))
const searchPath = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin']

export interface RunOptions {
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly input?: string
  /** `true`: must fail, and succeeding throws. `'maybe'`: either is right. Otherwise failing throws. */
  readonly expectFailure?: boolean | 'maybe'
  /** Milliseconds after which the command is killed; 30 seconds unless told. Multiplied by {@link patience}. */
  readonly timeout?: number
}

export interface RunResult {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

/** A place where commands run: a host, or a namespace in it. Commands are not given to a shell; their directory is `/`. */
export interface Place {
  run(command: readonly string[], options?: RunOptions): RunResult
  /** Runs a script of several lines in sh, ending at the first failing one. */
  sh(script: string, options?: RunOptions): RunResult
  /** The JSON that a command prints; undefined when it prints nothing. */
  // biome-ignore lint/suspicious/noExplicitAny: what a tool prints is as varied as the tools; the test says what it expects
  json(command: readonly string[], options?: RunOptions): any
  /** Starts a command in the background; it is killed with the host at the latest. */
  start(command: readonly string[]): ChildProcess
}

/** A named network namespace, as `ip netns add` makes it. */
export interface Container extends Place {
  readonly name: string
  readonly path: string
}

export interface CniCall {
  /** A network configuration as a plugin reads it from stdin. */
  readonly config: object
  readonly containerId?: string
  /** Path of the namespace: {@link Container.path}. */
  readonly netns?: string
  readonly ifName?: string
  readonly args?: string
  /** CNI_PATH, where the host is searched for the plugin as well; {@link executables} unless told. */
  readonly path?: string
  /** Variables besides the ones CNI defines. */
  readonly env?: Readonly<Record<string, string>>
  readonly expectFailure?: boolean | 'maybe'
  readonly timeout?: number
}

export interface CniResult extends RunResult {
  /** What stdout says, undefined when it says nothing. */
  // biome-ignore lint/suspicious/noExplicitAny: a result or an error object of any spec version
  readonly json: any
}

export interface Host extends Place, Disposable {
  /** The process that keeps the namespaces alive. */
  readonly pid: number
  /** Path on which this process sees a file of the host. */
  file(path: string): string
  addContainer(name: string): Container
  /**
   * Connects the host to the world: its eth0 is 192.0.2.1 and 2001:db8::1, and the default routes lead to 192.0.2.2 and
   * 2001:db8::2 in the namespace returned, which has no route back to any other address of the host's.
   */
  addUplink(): Place
  /** Runs a plugin with the environment that CNI defines, PATH, and nothing else. */
  cni(plugin: string, command: string, call: CniCall): CniResult
  /** Kernel and disk state in a form to compare with `toEqual`. */
  snapshot(options?: SnapshotOptions): Snapshot
}

export interface HostOptions {
  /** CNI_PATH of {@link Host.cni} calls that don't say another. */
  readonly cniPath?: string
}

function sleep(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}

function describe(command: readonly string[], result: RunResult, options: RunOptions): string {
  const parts = [`${command.join(' ')}: exit ${result.status}`]
  if (options.input) parts.push(`--- stdin\n${options.input}`)
  if (result.stdout) parts.push(`--- stdout\n${result.stdout.trimEnd()}`)
  if (result.stderr) parts.push(`--- stderr\n${result.stderr.trimEnd()}`)
  return parts.join('\n')
}

function execute(
  enter: readonly string[],
  command: readonly string[],
  options: RunOptions,
  env: SpawnSyncOptionsWithStringEncoding['env'],
): RunResult {
  const [program, ...args] = [...enter, ...command]
  const child = spawnSync(program!, args, {
    env,
    input: options.input ?? '',
    encoding: 'utf8',
    timeout: (options.timeout ?? 30_000) * patience,
    killSignal: 'SIGKILL',
    maxBuffer: 256 * 1024 * 1024,
  })
  // EPIPE: it ended without reading its input, as plugins do that are asked for VERSION.
  if (child.error && (child.error as NodeJS.ErrnoException).code !== 'EPIPE')
    throw new Error(`${command.join(' ')}: ${child.error.message}\n${child.stdout ?? ''}${child.stderr ?? ''}`)
  const result = { status: child.status ?? 128, stdout: child.stdout, stderr: child.stderr }
  const { expectFailure = false } = options
  if (expectFailure !== 'maybe' && (result.status !== 0) !== expectFailure)
    throw new Error(`${expectFailure ? 'expected to fail, but ' : ''}${describe(command, result, options)}`)
  return result
}

/** A place that is entered by putting `enter` before a command. `started` collects what runs in the background. */
function place(enter: readonly string[], started: ChildProcess[]): Place {
  const environment = (options: RunOptions) => ({ ...process.env, PATH: searchPath.join(delimiter), ...options.env })
  const run = (command: readonly string[], options: RunOptions = {}) =>
    execute(enter, command, options, environment(options))
  return {
    run,
    sh: (script, options) => run(['sh', '-ec', script], options),
    json(command, options) {
      const { stdout } = run(command, options)
      return stdout.trim() === '' ? undefined : JSON.parse(stdout)
    },
    start(command) {
      const [program, ...args] = [...enter, ...command]
      const child = spawn(program!, args, { env: environment({}), stdio: ['pipe', 'pipe', 'pipe'] })
      started.push(child)
      return child
    },
  }
}

/**
 * Starts the process that holds a host's namespaces. It ends when its stdin does, so that it can't outlive this process.
 * Waiting is synchronous, for `using host = createHost()`: readiness comes through a file.
 */
function startHolder(): ChildProcess & { readonly pid: number } {
  const directory = mkdtempSync(join(tmpdir(), 'ns-net-host-'))
  const log = openSync(join(directory, 'log'), 'w')
  try {
    const command = ['--net', '--mount', '--', 'sh', prologue, 'sh', '-c', 'echo ready; exec cat']
    const holder = spawn('unshare', command, { stdio: ['pipe', log, log] })
    holder.unref()
    if (holder.pid === undefined) throw new Error('unshare is not installed (util-linux)')
    for (let waited = 0; ; waited += 2) {
      const output = readFileSync(join(directory, 'log'), 'utf8')
      if (output.endsWith('ready\n')) return holder as ChildProcess & { readonly pid: number }
      const ended = /^State:\s+[ZX]/m.test(readFileSync(`/proc/${holder.pid}/status`, 'utf8'))
      if (ended || waited > 10_000 * patience) {
        holder.kill('SIGKILL')
        throw new Error(`no throw-away host ${ended ? 'can be made' : 'in time'}: ${output.trim()}`)
      }
      sleep(2)
    }
  } finally {
    closeSync(log)
    rmSync(directory, { recursive: true })
  }
}

/** Makes a host: new network and mount namespaces with a disk of their own. Take it with `using`. */
export function createHost({ cniPath = executables }: HostOptions = {}): Host {
  const holder = startHolder()
  const { pid } = holder
  const started: ChildProcess[] = []
  const parts: Disposable[] = []
  // By its path: a call may take PATH away from the command.
  const enter = [findProgram('nsenter') ?? 'nsenter', `--target=${pid}`, '--net', '--mount', '--']
  const self = place(enter, started)
  const file = (path: string) => `/proc/${pid}/root${path}`

  return {
    ...self,
    pid,
    file,

    addContainer(name) {
      self.run(['ip', 'netns', 'add', name])
      return { name, path: `/run/netns/${name}`, ...place([...enter, 'ip', 'netns', 'exec', name], started) }
    },

    addUplink() {
      const outside = createHost()
      parts.push(outside)
      self.run(['ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(outside.pid)])
      const connect = (end: Place, n: number) =>
        end.sh(`ip address add 192.0.2.${n}/24 dev eth0
                ip address add 2001:db8::${n}/64 dev eth0 nodad
                ip link set eth0 up`)
      connect(outside, 2)
      connect(self, 1)
      self.sh(`ip route add default via 192.0.2.2
               ip route add default via 2001:db8::2`)
      return outside
    },

    cni(plugin, command, { config, containerId, netns, ifName, args, path = cniPath, env, ...options }) {
      const directories = path.split(delimiter)
      const directory = directories.find((candidate) => isExecutable(file(join(candidate, plugin))))
      if (!directory) throw new Error(`no executable ${plugin} in ${path}: run npm run build`)
      const environment: Record<string, string | undefined> = {
        PATH: searchPath.join(delimiter),
        CNI_COMMAND: command,
        CNI_CONTAINERID: containerId,
        CNI_NETNS: netns,
        CNI_IFNAME: ifName,
        CNI_ARGS: args,
        CNI_PATH: path,
        ...env,
      }
      for (const name of Object.keys(environment)) if (environment[name] === undefined) delete environment[name]
      const input = JSON.stringify(config)
      const result = execute(enter, [join(directory, plugin)], { ...options, input }, environment)
      return { ...result, json: result.stdout.trim() === '' ? undefined : JSON.parse(result.stdout) }
    },

    snapshot: (options) => takeSnapshot(self, file, options),

    [Symbol.dispose]() {
      for (const child of started) child.kill('SIGKILL')
      endInhabitants(file('/run/netns'))
      for (const part of parts) part[Symbol.dispose]()
      holder.kill('SIGKILL')
    },
  }
}

/** Ends what still runs in the named namespaces: commands of labs have sessions of their own and outlive their parents. */
function endInhabitants(folder: string): void {
  const inodeOf = (path: string) => statSync(path, { throwIfNoEntry: false })?.ino
  const names = existsSync(folder) ? readdirSync(folder) : []
  const inodes = new Set(names.map((name) => inodeOf(join(folder, name))))
  if (inodes.size === 0) return
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      if (inodes.has(inodeOf(`/proc/${pid}/ns/net`) ?? -1)) process.kill(Number(pid), 'SIGKILL')
    } catch {
      // it has ended, or belongs to somebody else
    }
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

function findProgram(name: string): string | undefined {
  return searchPath.map((directory) => join(directory, name)).find(isExecutable)
}

/** Path of a program. Without it the calling test is skipped with the reason, or under CI fails. */
export function requireTool(name: string, context: TestContext): string {
  const found = findProgram(name)
  if (found) return found
  const reason = `${name} is not installed`
  if (process.env.CI) throw new Error(`${reason}; under CI every judge must be there`)
  console.warn(`skipped: ${context.task.name}: ${reason}`)
  context.skip(reason)
}
