import { ConfigError, Value } from '../../config/reader.ts'
import { parseRule, type Rule } from '../../plugins/chaos/rule.ts'
import {
  countOf,
  exclusively,
  forgetCounts,
  type Injected,
  injectedFaults,
  reset,
  runTimeRuleDocuments,
  runTimeRules,
  writeRunTimeRules,
} from '../../plugins/chaos/state.ts'
import { CliError } from '../errors.ts'
import { type Report, table } from '../output.ts'

export interface ChaosAddOptions {
  readonly id?: string
  readonly verb?: readonly string[]
  readonly namespace?: string
  readonly pod?: string
  readonly container?: string
  readonly label?: readonly string[]
  readonly probability?: string
  readonly count?: number
  readonly after?: string
  readonly until?: string
  readonly delay?: string
  readonly error?: string
  readonly afterwards?: boolean
  readonly hang?: boolean
  readonly result?: string
  readonly drop?: boolean
  readonly loss?: string
  readonly rate?: string
  readonly partition?: string
}

/** The document of a rule, as a conflist has it. */
function documentOf(options: ChaosAddOptions): Record<string, unknown> {
  const { id, verb, namespace, pod, container, label = [], probability, count, after, until } = options
  const labels = Object.fromEntries(label.map((pair) => pair.split(/=(.*)/s).slice(0, 2)))
  const match = { namespace, pod, container, ...(label.length > 0 && { labels }) }
  return {
    id,
    verbs: verb?.map((each) => each.toUpperCase()),
    match: Object.values(match).some((each) => each !== undefined) ? match : undefined,
    probability: probability === undefined ? undefined : Number(probability),
    count,
    after,
    until,
    fault: faultOf(options),
  }
}

function faultOf(options: ChaosAddOptions): Record<string, unknown> {
  const { delay, error, afterwards, hang, result, drop, loss, rate, partition } = options
  const link = { loss: loss && Number(loss.replace('%', '')), rate }
  const [namespace, pod] = partition?.includes('/') ? partition.split('/') : [undefined, partition]
  return {
    delay,
    error: error === undefined ? undefined : { code: Number(error), afterwards },
    hang,
    result,
    drop,
    link: loss || rate ? link : undefined,
    partition: partition === undefined ? undefined : { namespace, pod },
  }
}

/** A rule more, at run time; every chaos plugin of this host knows it from its next call on. */
export function addRule(options: ChaosAddOptions): Report {
  return exclusively(() => {
    const before = runTimeRuleDocuments()
    const document = JSON.parse(JSON.stringify({ id: freeId(), ...withoutUndefined(documentOf(options)) }))
    try {
      const { id } = parseRule(new Value(document, ''), '')
      if (runTimeRules().some((rule) => rule.id === id))
        throw new CliError('conflict', `rule "${id}" is there already`, `ns-net chaos rm ${id}`)
    } catch (error) {
      if (error instanceof ConfigError) throw new CliError('usage', error.message.replace(/^[.:\s]+/, ''))
      throw error
    }
    writeRunTimeRules([...before, document])
    return { json: document, text: `${document.id}  ${JSON.stringify(document.fault)}\n` }
  })
}

const withoutUndefined = (value: object) =>
  Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined))

function freeId(): string {
  const taken = new Set(runTimeRules().map(({ id }) => id))
  for (let n = 1; ; n++) if (!taken.has(`run${n}`)) return `run${n}`
}

export function rmRules(ids: readonly string[], all: boolean): Report {
  return exclusively(() => {
    const documents = runTimeRuleDocuments()
    const gone = all ? documents.map(({ id }) => String(id)) : ids
    for (const id of gone)
      if (!documents.some((document) => document.id === id))
        throw new CliError(
          'notFound',
          `no rule "${id}" was given at run time`,
          'ns-net chaos ls; a conflist keeps its own',
        )
    writeRunTimeRules(documents.filter(({ id }) => !gone.includes(String(id))))
    forgetCounts(gone)
    return { json: gone.map((id) => ({ id, deleted: true })), text: gone.map((id) => `${id}  deleted\n`).join('') }
  })
}

/** Rules given at run time, with how often each was asked and struck. */
export function lsRules(): Report {
  const rules = runTimeRules().map((rule) => ({ ...rule, ...countOf(rule.id) }))
  const row = (rule: Rule & { asked: number; struck: number }) => [
    rule.id,
    rule.verbs.join(','),
    whom(rule),
    rule.fault.kind,
    String(rule.probability),
    `${rule.struck}/${rule.asked}`,
  ]
  return { json: rules, text: table(['ID', 'VERBS', 'WHOM', 'FAULT', 'PROBABILITY', 'STRUCK'], rules.map(row)) }
}

function whom({ match }: Rule): string {
  const { namespace, pod, container, labels } = match
  const parts = [namespace && `ns=${namespace}`, pod && `pod=${pod}`, container && `container=${container}`]
  return [...parts, ...labels.map(([key, value]) => `${key}=${value}`)].filter(Boolean).join(',') || 'all'
}

/** Every fault that was injected, oldest first. */
export function report(clear: boolean): Report {
  const found = injectedFaults()
  if (clear) exclusively(reset)
  const row = ({ time, rule, fault, verb, network, container, pod, namespace }: Injected) => [
    time,
    rule,
    fault,
    verb,
    network,
    pod ? [namespace, pod].filter(Boolean).join('/') : container.slice(0, 12),
  ]
  return { json: found, text: table(['TIME', 'RULE', 'FAULT', 'VERB', 'NETWORK', 'WHO'], found.map(row)) }
}
