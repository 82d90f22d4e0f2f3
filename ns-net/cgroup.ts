import fs from 'node:fs'
import { pause } from '../netlink-lib/pause.ts'
import { CliError } from './errors.ts'

/**
 * Limits of memory, processor time and number of processes, by a control group of our own: `ns-net-NAME` at the top of
 * the hierarchy that has the controller. That is the one of cgroup v2, or with cgroup v1 one for each controller
 * (cgroups(7)); the machine decides, and some have both. Found again by its name, so nothing is recorded.
 */
export interface Limits {
  /** Bytes. */
  readonly memory?: number
  /** Of one processor's time; 1.5 is one and a half. */
  readonly cpus?: number
  readonly pids?: number
}

type Controller = keyof typeof controllers

const period = 100_000 // microseconds, the kernel's own default

/** What to write where: in the files of version 2, and of version 1. */
const controllers = {
  memory: {
    limit: 'memory',
    v2: (bytes: number) => ({ 'memory.max': `${bytes}` }),
    v1: (bytes: number) => ({ 'memory.limit_in_bytes': `${bytes}` }),
  },
  cpu: {
    limit: 'cpus',
    v2: (share: number) => ({ 'cpu.max': `${Math.round(share * period)} ${period}` }),
    v1: (share: number) => ({ 'cpu.cfs_period_us': `${period}`, 'cpu.cfs_quota_us': `${Math.round(share * period)}` }),
  },
  pids: {
    limit: 'pids',
    v2: (count: number) => ({ 'pids.max': `${count}` }),
    v1: (count: number) => ({ 'pids.max': `${count}` }),
  },
} as const

/** Where control groups are mounted, and which controllers a version 1 hierarchy has. */
export interface Hierarchy {
  readonly path: string
  readonly version: 1 | 2
  readonly options: readonly string[]
}

/** The hierarchies in the text of /proc/self/mountinfo; of several mounts at one place the last one is seen. */
export function hierarchiesIn(mountinfo: string): Hierarchy[] {
  const found = new Map<string, Hierarchy>()
  for (const line of mountinfo.split('\n')) {
    const [mount = '', filesystem = ''] = line.split(' - ')
    const path = mount.split(' ')[4] ?? ''
    const [type, , options = ''] = filesystem.split(' ')
    if (type === 'cgroup' || type === 'cgroup2')
      found.set(path, { path, version: type === 'cgroup' ? 1 : 2, options: options.split(',') })
  }
  return [...found.values()]
}

/** Those that another mount does not hide. */
const ownHierarchies = (): Hierarchy[] =>
  hierarchiesIn(fs.readFileSync('/proc/self/mountinfo', 'utf8')).filter(({ path }) =>
    fs.existsSync(`${path}/cgroup.procs`),
  )

const nameOf = (name: string): string => `ns-net-${name}`

/**
 * Makes the control groups that carry out these limits and returns their directories; a process joins by writing its
 * pid to `cgroup.procs` of each. Whole or not at all.
 */
export function createCgroup(
  name: string,
  limits: Limits,
  hierarchies: readonly Hierarchy[] = ownHierarchies(),
): string[] {
  const made = new Set<string>()
  try {
    for (const controller of Object.keys(controllers) as Controller[]) {
      const { limit, v1, v2 } = controllers[controller]
      const value = limits[limit]
      if (value === undefined) continue
      const { path, version } = hierarchyWith(controller, hierarchies)
      const directory = `${path}/${nameOf(name)}`
      if (!made.has(directory)) makeDirectory(directory, name)
      made.add(directory)
      for (const [file, text] of Object.entries(version === 2 ? v2(value) : v1(value)))
        attempt(`set ${file} of`, directory, () => fs.writeFileSync(`${directory}/${file}`, text))
    }
  } catch (error) {
    for (const directory of made) fs.rmdirSync(directory)
    throw error
  }
  return [...made]
}

/** The hierarchy that has the controller, made to hand it on to control groups below. */
function hierarchyWith(controller: Controller, hierarchies: readonly Hierarchy[]): Hierarchy {
  const v1 = hierarchies.find(({ version, options }) => version === 1 && options.includes(controller))
  if (v1) return v1
  const v2 = hierarchies.find(
    ({ path, version }) => version === 2 && wordsOf(`${path}/cgroup.controllers`).includes(controller),
  )
  if (!v2)
    throw new CliError(
      'unsupported',
      `--${controllers[controller].limit}: no control group hierarchy here has the controller "${controller}"`,
      'ls /sys/fs/cgroup shows what is mounted; cgroups(7) tells how',
    )
  const subtree = `${v2.path}/cgroup.subtree_control`
  if (!wordsOf(subtree).includes(controller))
    attempt(`hand on the controller "${controller}" by`, subtree, () => fs.writeFileSync(subtree, `+${controller}`))
  return v2
}

function wordsOf(file: string): string[] {
  try {
    return fs.readFileSync(file, 'utf8').trim().split(/\s+/)
  } catch {
    return [] // no such file: not version 2, or not for this user
  }
}

/** One that is there without processes was left by a run that was killed. */
function makeDirectory(directory: string, name: string): void {
  if (fs.existsSync(directory)) {
    if (processesOf(directory).length > 0)
      throw new CliError('conflict', `control group ${directory} has processes`, `choose another --name than ${name}`)
    attempt('remove leftover', directory, () => fs.rmdirSync(directory))
  }
  attempt('create control group', directory, () => fs.mkdirSync(directory))
}

/** EROFS, EACCES, EPERM: a container, or no root of the machine. EBUSY: version 2 below the top, with processes. */
function attempt(what: string, path: string, step: () => void): void {
  try {
    step()
  } catch (error) {
    const { code = '' } = error as { code?: string }
    const message = `cannot ${what} ${path}: ${code}`
    if (['EROFS', 'EACCES', 'EPERM'].includes(code))
      throw new CliError(
        'permission',
        message,
        'limits need root of the machine itself: leave --memory, --cpus and --pids out',
      )
    if (code === 'EBUSY' || code === 'ENOTSUP')
      throw new CliError('unsupported', message, 'this place hands no controllers on: run ns-net outside the container')
    throw new CliError('failed', message)
  }
}

const processesOf = (directory: string): number[] => wordsOf(`${directory}/cgroup.procs`).filter(Boolean).map(Number)

const directoriesOf = (name: string, hierarchies = ownHierarchies()): string[] =>
  hierarchies.map(({ path }) => `${path}/${nameOf(name)}`).filter((directory) => fs.existsSync(directory))

/** Kills what is left in the control groups of this name and removes them. Absent is done. */
export function removeCgroup(name: string): void {
  for (const directory of directoriesOf(name)) {
    for (let attempts = 0; fs.existsSync(directory); attempts++) {
      for (const pid of processesOf(directory)) killIfThere(pid)
      try {
        fs.rmdirSync(directory)
      } catch (error) {
        // EBUSY until the last of them is reaped.
        if ((error as { code?: string }).code !== 'EBUSY' || attempts === 200) throw error
        pause(10)
      }
    }
  }
}

/** Removes the control groups of this name unless processes are in them. */
export function removeEmptyCgroup(name: string): void {
  for (const directory of directoriesOf(name)) if (processesOf(directory).length === 0) fs.rmdirSync(directory)
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // it ended by itself
  }
}

/** Names of control groups of ours that nobody is in. A young one may be waiting for its first process. */
export function listEmptyCgroups(leastAgeMs = 60_000, hierarchies = ownHierarchies()): string[] {
  const names = hierarchies.flatMap(({ path }) =>
    fs
      .readdirSync(path)
      .filter((name) => name.startsWith(nameOf('')))
      .filter((name) => {
        const directory = `${path}/${name}`
        const age = Date.now() - (fs.statSync(directory, { throwIfNoEntry: false })?.mtimeMs ?? Date.now())
        return age >= leastAgeMs && processesOf(directory).length === 0
      }),
  )
  return [...new Set(names)].map((name) => name.slice(nameOf('').length))
}
