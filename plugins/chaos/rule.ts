import type { Section, Value } from '../../config/reader.ts'
import type { Request } from '../contract/request.ts'

/** When which fault happens to whom. The same in a conflist and at run time. */
export interface Rule {
  readonly id: string
  readonly verbs: readonly Verb[]
  readonly match: Match
  /** From 0 to 1. */
  readonly probability: number
  /** At most so many faults; unlimited when absent. */
  readonly count?: number
  /** Milliseconds since 1970. */
  readonly after?: number
  readonly until?: number
  readonly fault: Fault
}

export const verbs = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS'] as const
export type Verb = (typeof verbs)[number]

/** Patterns with `*` and `?`; what is not named matches. */
export interface Match {
  readonly namespace?: string
  readonly pod?: string
  readonly container?: string
  readonly labels: readonly (readonly [key: string, pattern: string])[]
}

export const wrongResults = ['missing-ip', 'wrong-version', 'duplicate-address'] as const

export type Fault =
  | { readonly kind: 'delay'; readonly milliseconds: number }
  | { readonly kind: 'error'; readonly code: number; readonly message: string; readonly afterwards: boolean }
  | { readonly kind: 'hang' }
  | { readonly kind: 'result'; readonly wrong: (typeof wrongResults)[number] }
  | { readonly kind: 'drop' }
  | { readonly kind: 'link'; readonly loss: number; readonly rate: number }
  | { readonly kind: 'partition'; readonly from: Match }

export type FaultOf<Kind extends Fault['kind']> = Extract<Fault, { kind: Kind }>

export const parseRules = (section: Section): Rule[] => {
  const rules = section.list('rules', (value) => value).map((value, i) => parseRule(value, `rule${i + 1}`))
  for (const [i, { id }] of rules.entries())
    if (rules.findIndex((rule) => rule.id === id) < i) section.fail(`rules[${i}].id`, `"${id}" is there already`)
  return rules
}

/** Reads one rule; throws ConfigError naming the place. */
export function parseRule(value: Value, standardId: string): Rule {
  const section = value.object()
  const id = section.get('id')?.string() ?? standardId
  if (!/^[\w.-]{1,63}$/.test(id)) section.fail('id', `expected letters, digits, "_", "." and "-", got "${id}"`)
  const fault = parseFault(section.require('fault', 'an object such as {"delay": "2s"}').object())
  const standardVerbs: Verb[] = fault.kind === 'drop' ? ['DEL'] : ['ADD']
  const rule: Rule = {
    id,
    verbs: section.get('verbs')?.list((verb) => verb.oneOf(...verbs)) ?? standardVerbs,
    match: parseMatch(section.get('match')?.object()),
    probability: fraction(section, 'probability') ?? 1,
    count: section.get('count')?.integer(1, 1_000_000_000),
    after: time(section, 'after'),
    until: time(section, 'until'),
    fault,
  }
  const misplaced = rule.verbs.find((verb) => !isPossible(fault.kind, verb))
  if (misplaced) section.fail('verbs', `fault "${fault.kind}" cannot happen to ${misplaced}`)
  const [unknown] = section.unread()
  if (unknown) section.fail(unknown, `unknown key; known are ${section.known().join(', ')}`)
  return rule
}

/** A result and the links of a pod are made by ADD only; nothing but a DEL can be dropped in silence. */
function isPossible(kind: Fault['kind'], verb: Verb): boolean {
  if (kind === 'result' || kind === 'link' || kind === 'partition') return verb === 'ADD'
  return kind !== 'drop' || verb === 'DEL'
}

function fraction(section: Section, key: string): number | undefined {
  const value = section.get(key)
  if (!value) return undefined
  const { json } = value
  return typeof json === 'number' && json >= 0 && json <= 1 ? json : value.fail(`expected a number from 0 to 1`)
}

function time(section: Section, key: string): number | undefined {
  const value = section.get(key)
  if (!value) return undefined
  const milliseconds = Date.parse(value.string())
  return Number.isNaN(milliseconds) ? value.fail('expected a time such as 2026-11-22T12:00:00Z') : milliseconds
}

function parseMatch(section: Section | undefined): Match {
  const pattern = (key: string) => section?.get(key)?.string()
  const labels = section?.get('labels')?.json ?? {}
  return {
    namespace: pattern('namespace'),
    pod: pattern('pod'),
    container: pattern('container'),
    labels: Object.entries(labels as Record<string, unknown>).map(([key, each]) => [key, String(each)] as const),
  }
}

function parseFault(section: Section): Fault {
  const kinds = ['delay', 'error', 'hang', 'result', 'drop', 'link', 'partition'] as const
  const given = kinds.filter((kind) => section.get(kind))
  if (given.length !== 1) section.fail('', `expected one of ${kinds.join(', ')}`)
  const value = section.get(given[0]!)!
  switch (given[0]!) {
    case 'delay':
      return { kind: 'delay', milliseconds: duration(value) }
    case 'error': {
      const { code, message, afterwards } =
        typeof value.json === 'number' ? { code: value } : parseError(value.object())
      const number = code.integer(1, 2 ** 31 - 1)
      return { kind: 'error', code: number, message: message ?? 'injected by chaos', afterwards: afterwards ?? false }
    }
    case 'hang':
      return { kind: 'hang' }
    case 'drop':
      return { kind: 'drop' }
    case 'result':
      return { kind: 'result', wrong: value.oneOf(...wrongResults) }
    case 'link':
      return parseLink(value)
    case 'partition':
      return { kind: 'partition', from: parseMatch(value.object()) }
  }
}

const parseError = (section: Section) => ({
  code: section.require('code', 'a CNI error code such as 11'),
  message: section.get('message')?.string(),
  afterwards: section.get('afterwards')?.boolean(),
})

function parseLink(value: Value): Fault {
  const section = value.object()
  const loss = section.get('loss')?.integer(1, 100) ?? 0
  const rate = section.get('rate') ? bitsPerSecond(section.get('rate')!) : 0
  if (loss === 0 && rate === 0) value.fail('expected "loss" (percent) or "rate" (such as "1mbit")')
  return { kind: 'link', loss, rate }
}

const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000 }

function duration(value: Value): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(ms|s|m)$/.exec(String(value.json)) ?? []
  if (number === undefined) return value.fail('expected a duration such as 500ms, 2s or 1m')
  return Math.round(Number(number) * units[unit!]!)
}

function bitsPerSecond(value: Value): number {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?)(k|m|g)?bit$/.exec(String(value.json)) ?? []
  if (number === undefined) return value.fail('expected a rate such as 512kbit, 1mbit or 1gbit')
  return Math.round(Number(number) * { '': 1, k: 1e3, m: 1e6, g: 1e9 }[unit as '' | 'k' | 'm' | 'g'])
}

/** Who a call is about, as Kubernetes tells it in CNI_ARGS and others in `args.cni.labels`. */
export interface Subject {
  readonly namespace: string
  readonly pod: string
  readonly container: string
  readonly labels: Readonly<Record<string, string>>
}

export function subjectOf({ args, config, containerId }: Request): Subject {
  const labels = config.get('args')?.object().get('cni')?.object().get('labels')?.json
  const pairs = Array.isArray(labels) ? labels.map(({ key, value }) => [key, value]) : Object.entries(labels ?? {})
  return {
    namespace: args.get('K8S_POD_NAMESPACE') ?? '',
    pod: args.get('K8S_POD_NAME') ?? '',
    container: containerId,
    labels: Object.fromEntries(pairs),
  }
}

export function matches({ namespace, pod, container, labels }: Match, subject: Subject): boolean {
  const like = (pattern: string | undefined, text: string) => pattern === undefined || isLike(text, pattern)
  return (
    like(namespace, subject.namespace) &&
    like(pod, subject.pod) &&
    like(container, subject.container) &&
    labels.every(([key, pattern]) => key in subject.labels && isLike(subject.labels[key]!, pattern))
  )
}

/** `*` is any text, `?` one character. */
export function isLike(text: string, pattern: string): boolean {
  const expression = pattern
    .replaceAll(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
  return new RegExp(`^${expression}$`, 's').test(text)
}
