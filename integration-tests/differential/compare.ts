import type { Observation, Outcome } from './run.ts'
import type { Scenario } from './scenario.ts'
import type { RawNamespace, RawState, Row } from './state.ts'

/** One place where the two sets of plugins came to something else. */
export interface Difference {
  /** The step's label. */
  readonly step: string
  /** Keys from the outside in, joined with ` / `. */
  readonly path: string
  /** Undefined where there is nothing. */
  readonly reference: unknown
  readonly ours: unknown
}

/** Every difference between what the two came to, after what is random has been given common names. */
export function compare(
  scenario: Scenario,
  reference: readonly Observation[],
  ours: readonly Observation[],
): Difference[] {
  const [theirs, own] = [normalise(scenario, reference), normalise(scenario, ours)]
  return theirs.flatMap((value, i) =>
    [...stepDifferences(value, own[i]!)].map((difference) => ({ step: reference[i]!.label, ...difference })),
  )
}

/** Where only one of them succeeds, that is the difference, and not each key of its result as well. */
function* stepDifferences(reference: Normal, ours: Normal): Generator<Omit<Difference, 'step'>> {
  if (reference.failure === undefined && ours.failure === undefined)
    yield* differences(reference.success, ours.success, ['result'])
  else if (reference.failure !== undefined && ours.failure !== undefined)
    yield* differences(reference.failure.object, ours.failure.object, ['error'])
  else yield { path: 'outcome', reference: reference.failure?.text ?? 'success', ours: ours.failure?.text ?? 'success' }
  yield* differences(reference.seen, ours.seen)
}

const isRecord = (value: unknown): value is Row => typeof value === 'object' && value !== null && !Array.isArray(value)

function* differences(
  reference: unknown,
  ours: unknown,
  path: readonly string[] = [],
): Generator<Omit<Difference, 'step'>> {
  if (isRecord(reference) && isRecord(ours)) {
    for (const key of new Set([...Object.keys(reference), ...Object.keys(ours)]))
      yield* differences(reference[key], ours[key], [...path, key])
  } else if (JSON.stringify(ordered(reference)) !== JSON.stringify(ordered(ours)))
    yield { path: path.join(' / '), reference, ours }
}

/** With keys in the order of the alphabet: theirs has no meaning. */
function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered)
  if (!isRecord(value)) return value
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((key) => [key, ordered(value[key])]),
  )
}

/** Names of links that plugins make up. */
const madeUp = /^veth[0-9a-f]+$/

/** From the names that a run made up to names which say what it is; both stay valid after the link is gone. */
type Names = Map<string, string>

/** One step with everything random replaced. */
interface Normal {
  /** What the call printed; only one of `success` and `failure` is there. */
  readonly success?: unknown
  readonly failure?: { readonly object: unknown; readonly text: string }
  readonly seen: Row
}

function normalise(scenario: Scenario, observations: readonly Observation[]): Normal[] {
  const names: Names = new Map()
  const given = JSON.stringify(scenario).toLowerCase()
  let before: RawState | undefined
  return observations.map(({ state, outcome, source }) => {
    nameHostEnds(state, names)
    const seen = { ...stateOf(state, before, names, given), 'source address': source }
    before = state
    if (!outcome) return { seen }
    const printed = parsed(outcome.stdout)
    if (outcome.status !== 0)
      return { seen, failure: { object: errorOf(outcome, printed), text: errorText(outcome, printed) } }
    const silent = outcome.stderr === '' ? 'nothing' : 'text on stderr'
    return { seen, success: resultOf(printed, state, names, given) ?? silent }
  })
}

function parsed(stdout: string): unknown {
  if (stdout.trim() === '') return undefined
  try {
    return JSON.parse(stdout)
  } catch {
    return `no JSON: ${stdout}`
  }
}

/** An error counts by its code and by being complete; the text may be better than the reference's. */
function errorOf({ status }: Outcome, printed: unknown): Row {
  if (!isRecord(printed)) return { status, shape: printed === undefined ? 'nothing printed' : 'no JSON object' }
  const { code, msg, cniVersion, details, ...more } = printed
  return {
    status,
    code,
    'has a message': typeof msg === 'string' && msg !== '',
    'names its cniVersion': /^(0\.[1-4]\.\d|1\.[01]\.0)$/.test(cniVersion ?? ''),
    'details are text': details === undefined || typeof details === 'string',
    'other keys': Object.keys(more),
  }
}

/** An error in one line, for reports. */
export function errorText({ status, stdout, stderr }: Outcome, printed = parsed(stdout)): string {
  if (!isRecord(printed)) return `exit ${status}: ${stdout}${stderr}`
  const { code, msg, details } = printed
  return `error ${code}: ${msg}${details ? ` (${details})` : ''}`
}

/** Finds out which container's interface each made-up link belongs to. */
function nameHostEnds({ namespaces }: RawState, names: Names): void {
  for (const link of namespaces.host?.links ?? []) {
    if (!madeUp.test(link.ifname) || names.has(link.ifname)) continue
    for (const [container, { links }] of Object.entries(namespaces)) {
      const inner = links.find((other) => other.ifindex === link.link_index && other.link_index === link.ifindex)
      if (container !== 'host' && inner) names.set(link.ifname, `host end of ${container} ${inner.ifname}`)
    }
  }
}

const nameOf = (name: string, names: Names) => names.get(name) ?? (madeUp.test(name) ? 'made-up link' : name)

function stateOf(state: RawState, before: RawState | undefined, names: Names, given: string): Row {
  const entries = Object.entries(state.namespaces).map(([name, namespace]) => {
    const pinned = name === 'host' ? state.pinned : undefined
    return [name, namespaceOf(namespace, before?.namespaces[name], { names, given, pinned })]
  })
  return { ...Object.fromEntries(entries), files: state.files }
}

interface Context {
  readonly names: Names
  /** The scenario's text: a MAC that is in it is none that somebody made up. */
  readonly given: string
  readonly pinned: ReadonlySet<string> | undefined
}

function namespaceOf(namespace: RawNamespace, before: RawNamespace | undefined, context: Context): Row {
  const { names, given, pinned } = context
  const links: Row = {}
  for (const link of namespace.links) {
    const kept = steady(link)
    kept.address = macText(link.address, given)
    if (link.master) kept.master = nameOf(link.master, names)
    if (madeUp.test(link.ifname)) kept['form of the name'] = `veth${'#'.repeat(link.ifname.length - 4)}`
    if (pinned) kept['MAC is pinned'] = pinned.has(link.ifname)
    const earlier = before?.links.find(({ ifindex }) => ifindex === link.ifindex)
    if (earlier && pinned?.has(link.ifname)) kept['MAC stayed'] = earlier.address === link.address
    links[nameOf(link.ifname, names)] = { ...kept, addresses: {}, routes: {}, sysctls: {} }
  }

  for (const { ifname, addr_info = [] } of namespace.addresses)
    for (const { local, prefixlen, ...rest } of addr_info as Row[]) {
      if (isLinkLocal(local)) continue
      const { label, ...kept } = steady(rest)
      put(links[nameOf(ifname, names)].addresses, `${local}/${prefixlen}`, kept)
    }

  const routes: Row = {}
  for (const route of namespace.routes) {
    if (isLinkLocal(route.dst)) continue
    const { type, table, dst, dev, ...rest } = steady(route)
    const family = String(dst).includes(':') || route.pref !== undefined ? 'IPv6' : 'IPv4'
    put(dev === undefined ? routes : links[nameOf(dev, names)].routes, `${family} ${type} ${dst} table ${table}`, rest)
  }

  const rules: Row = {}
  for (const rule of namespace.rules) put(rules, `${rule.priority} from ${rule.src}`, rule)

  const sysctls: Row = {}
  for (const [path, value] of Object.entries(namespace.sysctls)) {
    const [family, , link, setting] = path.split('/')
    const ofLink = links[nameOf(link ?? '', names)]?.sysctls
    if (ofLink) ofLink[`${family} ${setting}`] = value
    else sysctls[path] = value
  }
  return { links, routes, rules, sysctls }
}

/** Two rows with the same key are told apart by a number, so that a missing one shows. */
function put(table: Row, key: string, row: Row): void {
  let unique = key
  for (let n = 2; unique in table; n++) unique = `${key} (${n})`
  table[unique] = row
}

/** They come and go with the carrier, some time after it, and are made of MACs. */
const isLinkLocal = (address: unknown) => /^(fe80:|ff00:)/.test(String(address))

const macText = (mac: unknown, given: string) =>
  mac === '00:00:00:00:00:00' || given.includes(String(mac)) ? mac : 'made up'

/** What changes by itself: numbers given at creation, timers, counters, and what follows from a carrier. */
const volatile = new Set([
  'ifname',
  'ifindex',
  'link',
  'link_index',
  'link_netnsid',
  'operstate',
  'valid_life_time',
  'preferred_life_time',
  'tentative',
  'expires',
  'bridge_id',
  'root_id',
  'designated_bridge',
  'designated_root',
  'designated_port',
  'designated_cost',
  'topology_change',
  'topology_change_detected',
  'state',
  'id',
  'no',
])
const carrierFlags = new Set(['NO-CARRIER', 'LOWER_UP', 'RUNNING', 'linkdown', 'dead', 'M-DOWN'])

function steady(row: Row): Row {
  const kept = Object.entries(row).filter(([key]) => !volatile.has(key) && !key.endsWith('_timer'))
  return Object.fromEntries(kept.map(([key, value]) => [key, steadyValue(value)]))
}

function steadyValue(value: unknown): unknown {
  if (Array.isArray(value)) return value.filter((item) => !carrierFlags.has(item)).map(steadyValue)
  return isRecord(value) ? steady(value) : value
}

/** A result with the names and MACs of the links replaced by what they are; a MAC that is no link's stays. */
function resultOf(printed: unknown, state: RawState, names: Names, given: string): unknown {
  if (!isRecord(printed) || !Array.isArray(printed.interfaces)) return printed
  const interfaces = (printed.interfaces as Row[]).map(({ name, mac, sandbox, ...more }) => {
    const place = sandbox === undefined ? 'host' : String(sandbox).split('/').pop()!
    const link = state.namespaces[place]?.links.find(({ ifname }) => ifname === name)
    const isItsOwn = link !== undefined && mac === link.address
    return { name: nameOf(name, names), mac: isItsOwn ? macText(mac, given) : mac, sandbox, ...more }
  })
  return { ...printed, interfaces: Object.fromEntries(interfaces.entries()) }
}
