import { Section } from '../../config/reader.ts'
import { pause } from '../../netlink-lib/pause.ts'
import { delegate, findExecutable } from '../contract/delegation.ts'
import { teardown } from '../contract/dispatch.ts'
import { CniError, codes } from '../contract/errors.ts'
import type { Plugin } from '../contract/plugin.ts'
import type { Request } from '../contract/request.ts'
import { parseResult, type Result } from '../contract/result.ts'
import { type ChaosConf, parseChaos, type Wrapped } from './config.ts'
import { isOf, release, releaseStale, spoil } from './links.ts'
import { type Fault, type FaultOf, type Rule, subjectOf } from './rule.ts'
import { log, placed, runTimeRules, strike } from './state.ts'

/** The faults of one kind among the rules that struck. */
const faults = <Kind extends Fault['kind']>(struck: readonly Rule[], kind: Kind): FaultOf<Kind>[] =>
  struck.map(({ fault }) => fault).filter((fault) => fault.kind === kind) as FaultOf<Kind>[]

/** Decides what happens to this call and logs it, before anything does. */
function decide({ rules, seed }: ChaosConf, request: Request): Rule[] {
  const subject = subjectOf(request)
  if (request.command === 'VERSION') return []
  const struck = strike([...rules, ...runTimeRules()], request.command, subject, seed)
  for (const { id, fault } of struck)
    log({
      time: new Date().toISOString(),
      rule: id,
      fault: fault.kind,
      verb: request.command,
      network: request.network,
      container: request.containerId,
      ifName: request.ifName,
      ...(subject.pod && { pod: subject.pod }),
      ...(subject.namespace && { namespace: subject.namespace }),
    })
  return struck
}

/** Delays, then a call that never ends, then an error instead of the work. */
function before(struck: readonly Rule[]): void {
  for (const { milliseconds } of faults(struck, 'delay')) pause(milliseconds)
  if (faults(struck, 'hang').length > 0) for (;;) pause(60_000)
  refuse(struck, false)
}

/** An error although the work is done; nothing is undone, which is what makes it a test. */
const after = (struck: readonly Rule[]): void => refuse(struck, true)

function refuse(struck: readonly Rule[], afterwards: boolean): void {
  for (const { id, fault } of struck)
    if (fault.kind === 'error' && fault.afterwards === afterwards)
      throw new CniError(fault.code, fault.message, `rule "${id}" of chaos says so; ns-net chaos report lists faults`)
}

/** Runs the plugin that this one stands in for. */
function runWrapped({ type, config }: Wrapped, request: Request): Result | undefined {
  const file = findExecutable(type, request.path)
  if (!file)
    throw new CniError(codes.invalidConfig, `failed to find plugin "${type}" in path [${request.path.join(':')}]`)
  const { name, cniVersion, prevResult, runtimeConfig, ...rest } = JSON.parse(request.document) as Record<
    string,
    unknown
  >
  const attachments = Object.fromEntries(Object.entries(rest).filter(([key]) => key.startsWith('cni.dev/')))
  const document = JSON.stringify({ ...config, ...attachments, name, cniVersion, prevResult, runtimeConfig })
  const printed = delegate(file, { ...request, document })
  return printed && parseResult(new Section(printed), request.cniVersion)
}

const nothing: Result = { interfaces: [], ips: [], routes: [] }

/** A result that says what is not so. */
function falsify(result: Result, struck: readonly Rule[], request: Request): Result {
  const wrongs = faults(struck, 'result').map(({ wrong }) => wrong)
  let told = result
  if (wrongs.includes('missing-ip')) told = { ...told, ips: [] }
  if (wrongs.includes('wrong-version')) told = { ...told, cniVersion: '9.9.9' }
  if (wrongs.includes('duplicate-address')) told = { ...told, ips: duplicated(result, request) }
  return told
}

/** The address of another pod in place of its own; without another pod its own one twice. */
function duplicated({ ips }: Result, request: Request): Result['ips'] {
  const other = placed().find((one) => one.network === request.network && !isOf(request)(one))
  const [first] = ips
  if (!first) return ips
  const taken = other?.addresses.find((address) => address.includes(':') === (first.address.family === 6))
  return taken ? [{ ...first, address: { ...first.address, address: taken } }, ...ips.slice(1)] : [first, ...ips]
}

/**
 * Faults on purpose. Chained, it acts at its place in the list: first, before the work; last, after it. With `plugin` it
 * stands in for that plugin and can also keep a DEL from it.
 */
export const chaos: Plugin<ChaosConf> = {
  type: 'chaos',
  parse: parseChaos,

  add(conf, request, host): Result {
    const struck = decide(conf, request)
    before(struck)
    const result = conf.wrapped ? (runWrapped(conf.wrapped, request) ?? nothing) : (request.prevResult ?? nothing)
    spoil(request, result, { links: faults(struck, 'link'), partitions: faults(struck, 'partition') }, host)
    after(struck)
    return falsify(result, struck, request)
  },

  del(conf, request, host): void {
    const struck = decide(conf, request)
    before(struck)
    if (faults(struck, 'drop').length > 0) return
    teardown(
      () => release(request, host),
      () => void (conf.wrapped && runWrapped(conf.wrapped, request)),
    )
    after(struck)
  },

  check(conf, request): void {
    const struck = decide(conf, request)
    before(struck)
    if (conf.wrapped) runWrapped(conf.wrapped, request)
    after(struck)
  },

  gc(conf, request, host): void {
    const struck = decide(conf, request)
    before(struck)
    teardown(
      () => releaseStale(request, host),
      () => void (conf.wrapped && runWrapped(conf.wrapped, request)),
    )
    after(struck)
  },

  status(conf, request): void {
    const struck = decide(conf, request)
    before(struck)
    if (conf.wrapped) runWrapped(conf.wrapped, request)
  },
}
