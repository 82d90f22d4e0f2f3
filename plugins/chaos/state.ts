import { Value } from '../../config/reader.ts'
import { fnv1a } from '../../nat/mark.ts'
import { isKernelError } from '../../netlink-lib/errors.ts'
import {
  deleteFile,
  deleteIfEmpty,
  findFile,
  findNames,
  makeDirectory,
  openFlags,
  replaceFile,
  writeFile,
} from '../../netlink-lib/files.ts'
import { withLock } from '../../netlink-lib/flock.ts'
import { matches, parseRule, type Rule, type Subject, type Verb } from './rule.ts'

/*
 * What lasts from one call to the next, in /run/ns-net/chaos: the rules given at run time as they were given, how often
 * each rule was asked and struck, a line for each fault, and where the pods that faults concern are.
 */
const directory = '/run/ns-net/chaos'
const lockFile = '/run/ns-net/chaos.lock'
const files = { rules: `${directory}/rules.json`, counts: `${directory}/counts.json`, log: `${directory}/faults.jsonl` }

/** An injected fault, as `ns-net chaos report` tells it. */
export interface Injected {
  /** ISO 8601. */
  readonly time: string
  readonly rule: string
  readonly fault: string
  readonly verb: string
  readonly network: string
  readonly container: string
  readonly ifName: string
  /** As Kubernetes says it; podman has names and no namespaces. */
  readonly pod?: string
  readonly namespace?: string
}

interface Count {
  /** Calls that the rule matched. */
  readonly asked: number
  /** Faults. */
  readonly struck: number
}

function read<T>(file: string, otherwise: T): T {
  const text = findFile(file)
  return text === undefined ? otherwise : (JSON.parse(text) as T)
}

function write(file: string, content: unknown): void {
  makeDirectory(directory, 0o700)
  replaceFile(file, JSON.stringify(content))
}

/**
 * Runs `work` while no other call decides or changes rules. When nothing is kept any more folder and lock go too; who
 * waits for the lock's file notices and takes a new one. It lies in the folder that the agent's container has of the
 * node, so that a call of the runtime and the agent exclude each other.
 */
export function exclusively<T>(work: () => T): T {
  const alone = () => {
    try {
      return work()
    } finally {
      tidy()
    }
  }
  for (;;) {
    makeDirectory('/run/ns-net')
    try {
      return withLock(lockFile, 10_000, alone)
    } catch (error) {
      // Another call has just tidied up.
      if (!isKernelError(error, 'ENOENT') || error.subject !== lockFile) throw error
    }
  }
}

function tidy(): void {
  const isKept = (findNames(directory) ?? []).length > 0
  if (isKept) return
  removeFolder(directory)
  deleteFile(lockFile)
  removeFolder('/run/ns-net')
}

/** A folder that is mounted, as in the agent's container, stays. */
function removeFolder(folder: string): void {
  try {
    deleteIfEmpty(folder)
  } catch (error) {
    if (!isKernelError(error, 'EBUSY')) throw error
  }
}

export const runTimeRuleDocuments = (): Record<string, unknown>[] => read(files.rules, [])

/** Rules given at run time; they come after those of the conflist. */
export const runTimeRules = (): Rule[] =>
  runTimeRuleDocuments().map((document, i) => parseRule(new Value(document, `rules[${i}]`), `run${i + 1}`))

export function writeRunTimeRules(documents: readonly Record<string, unknown>[]): void {
  if (documents.length > 0) write(files.rules, documents)
  else deleteFile(files.rules)
}

/** How often a rule was asked and struck. */
export const countOf = (id: string): Count => counts()[id] ?? { asked: 0, struck: 0 }

const counts = (): Record<string, Count> => read(files.counts, {})

export function forgetCounts(ids: readonly string[]): void {
  const all = counts()
  for (const id of ids) delete all[id]
  if (Object.keys(all).length > 0) write(files.counts, all)
  else deleteFile(files.counts)
}

/**
 * The n-th throw of a rule's die, from 0 to 1: a function of seed, rule and number, so that the same seed gives the same
 * faults in the same order, whatever the containers are called.
 */
export const chance = (seed: number, rule: string, n: number): number =>
  Number.parseInt(fnv1a(`${seed}\0${rule}\0${n}`).slice(0, 12), 16) / 2 ** 48

/** The rules that strike now; asking counts. */
export function strike(rules: readonly Rule[], verb: Verb, subject: Subject, seed: number, now = Date.now()): Rule[] {
  const concerned = rules.filter(
    ({ verbs, match, after = 0, until = Number.POSITIVE_INFINITY }) =>
      verbs.includes(verb) && now >= after && now < until && matches(match, subject),
  )
  if (concerned.length === 0) return []
  return exclusively(() => {
    const all = counts()
    const struck = concerned.filter(({ id, probability, count = Number.POSITIVE_INFINITY }) => {
      const before = all[id] ?? { asked: 0, struck: 0 }
      const hit = before.struck < count && chance(seed, id, before.asked) < probability
      all[id] = { asked: before.asked + 1, struck: before.struck + (hit ? 1 : 0) }
      return hit
    })
    write(files.counts, all)
    return struck
  })
}

/** One line more in the log; it is written before the fault happens, which may be that nothing happens any more. */
export function log(injected: Injected): void {
  makeDirectory(directory, 0o700)
  writeFile(files.log, `${JSON.stringify(injected)}\n`, openFlags.create | openFlags.append)
}

export function injectedFaults(): Injected[] {
  const lines = findFile(files.log)?.split('\n').filter(Boolean) ?? []
  return lines.map((line) => JSON.parse(line) as Injected)
}

/** Where a pod is, for partitions and for results that name another pod's address. */
export interface Placed extends Subject {
  readonly network: string
  readonly ifName: string
  /** The host's end of its link. */
  readonly link: string
  readonly addresses: readonly string[]
}

const placedFile = `${directory}/placed.json`

export const placed = (): Placed[] => read(placedFile, [])

/** To be called under the lock. */
export function writePlaced(all: readonly Placed[]): void {
  if (all.length > 0) write(placedFile, all)
  else deleteFile(placedFile)
}

/** Forgets rules given at run time, counts and log. */
export function reset(): void {
  for (const file of Object.values(files)) deleteFile(file)
}
