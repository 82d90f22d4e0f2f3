import { Host } from '../../plugins/contract/host.ts'
import type { ConfList } from '../conflist.ts'
import { CliError } from '../errors.ts'
import { exclusively } from '../labs.ts'
import {
  createNetwork,
  type Driver,
  drivers,
  listNetworks,
  type NetworkSpec,
  removeNetwork,
  requireExisting,
  specOf,
  usersOf,
} from '../networks.ts'
import { type Report, table } from '../output.ts'

export interface NetCreateOptions {
  readonly driver?: string
  readonly subnet?: readonly string[]
  readonly gateway?: string
  readonly ipv6?: boolean
  readonly internal?: boolean
  readonly isolated?: boolean
  readonly mtu?: number
  readonly bridge?: string
  readonly parent?: string
}

export function createNet(name: string, { driver, subnet, ...rest }: NetCreateOptions): Report {
  const spec: NetworkSpec = { name, driver: driverOf(driver), subnets: subnet, ...rest }
  refuseContradictions(spec)
  const list = exclusively(() => {
    using host = new Host()
    return createNetwork(spec, host)
  })
  const json = describe(list)
  return { json, text: `${name}  ${json.driver}  ${json.subnets.join(' ') || 'no addresses'}\n` }
}

function driverOf(text: string | undefined): Driver | undefined {
  if (text === undefined) return undefined
  const driver = drivers.find((each) => each === text)
  if (!driver) throw new CliError('usage', `unknown driver "${text}"`, `expected one of ${drivers.join(', ')}`)
  return driver
}

function refuseContradictions({
  driver = 'bridge',
  subnets,
  gateway,
  isolated,
  internal,
  bridge,
  parent,
}: NetworkSpec) {
  const refuse = (what: string) => {
    throw new CliError('usage', `a network with driver ${driver} has no ${what}`)
  }
  if (driver === 'l2' && (subnets || gateway || internal)) refuse('addresses')
  if ((driver === 'ptp' || driver === 'macvlan') && bridge) refuse('bridge')
  if ((driver === 'ptp' || driver === 'macvlan') && isolated) refuse('--isolated')
  if (driver !== 'macvlan' && parent) refuse('--parent')
  const families = (subnets ?? []).map((subnet) => subnet.includes(':'))
  if (new Set(families).size < families.length)
    throw new CliError('usage', 'two ranges of one family', 'give one IPv4 and one IPv6 range')
}

function describe(list: ConfList) {
  const spec = specOf(list)
  return { ...spec, labs: usersOf(list.name), plugins: list.plugins.map(({ type }) => type) }
}

export function lsNets(): Report {
  const networks = listNetworks().map(describe)
  const row = ({ name, driver, subnets, bridge, internal, isolated, labs }: (typeof networks)[number]) => [
    name,
    driver,
    subnets.join(','),
    bridge ?? '',
    [internal && 'internal', isolated && 'isolated'].filter(Boolean).join(','),
    String(labs.length),
  ]
  return { json: networks, text: table(['NAME', 'DRIVER', 'SUBNET', 'BRIDGE', 'FLAGS', 'LABS'], networks.map(row)) }
}

/** A network with its conflist, which any CNI runtime can use. */
export function showNet(name: string): Report {
  const list = requireExisting(name)
  const { disableCheck: _, ...conflist } = list
  const json = { ...describe(list), conflist }
  const { driver, subnets, bridge, internal, isolated, labs } = json
  const facts: [string, string | undefined][] = [
    ['network', name],
    ['driver', driver],
    ['subnets', subnets.join(' ') || 'none'],
    ['bridge', bridge],
    ['flags', [internal && 'internal', isolated && 'isolated'].filter(Boolean).join(' ') || undefined],
    ['labs', labs.join(' ') || 'none'],
    ['plugins', json.plugins.join(' ')],
  ]
  return { json, text: facts.map(([key, value]) => (value ? `${key.padEnd(10)}${value}\n` : '')).join('') }
}

export function rmNets(names: readonly string[]): Report {
  exclusively(() => {
    using host = new Host()
    for (const name of names) removeNetwork(name, host)
  })
  return {
    json: names.map((name) => ({ name, deleted: true })),
    text: names.map((name) => `${name}  deleted\n`).join(''),
  }
}
