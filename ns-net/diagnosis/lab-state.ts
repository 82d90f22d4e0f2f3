import { cidr, contains, formatCidr } from '../../netlink-lib/ip.ts'
import type { Route } from '../../netlink-lib/route/route.ts'
import { type Lab, listLabs, listNetnsNames } from '../labs.ts'
import { defaultNetwork, listNetworks, subnetsOf } from '../networks.ts'
import { overlaps } from '../subnets.ts'
import { type Check, isRoot, ok, unknown } from './checkup.ts'
import type { Place, World } from './places.ts'
import { driftOf, restoration } from './records.ts'

/** Whether labs and networks are still what was made. */

export function checkLabs(world: World): Check[] {
  const check = 'labs'
  const labs = listLabs()
  if (labs.length === 0) return [ok(check, 'none')]
  if (!isRoot()) return [unknown(check, 'only root may look inside')]
  const names = new Set(listNetnsNames())
  const found = labs.flatMap((lab) => (names.has(lab.name) ? checkLab(world, lab) : [gone(lab)]))
  return found.length > 0 ? found : [ok(check, `${labs.length} as they were made`)]
}

const gone = ({ name }: Lab): Check => ({
  check: 'labs',
  state: 'fail',
  finding: `the namespace of ${name} is gone`,
  fix: `ns-net del ${name}`,
})

function checkLab(world: World, lab: Lab): Check[] {
  const drift = driftOf(lab)
  const place = world.open(lab.name)
  const commands = lab.attachments.flatMap((attachment) => restoration(place, lab, attachment))
  if (drift.length === 0 && commands.length === 0) return []
  const finding =
    drift.length > 0 ? `${lab.name}: ${drift.join('; ')}` : `${lab.name}: an interface is not as it was made`
  return [{ check: 'labs', state: 'fail', finding, fix: commands.length > 0 ? commands.join(' && ') : 'ns-net reload' }]
}

/** Routes of the host that lead into the range of a network, and so away from its labs. */
export function checkRanges({ host }: World): Check[] {
  const check = 'ranges'
  const routes = ([4, 6] as const)
    .flatMap((family) => host.route.listRoutes(family))
    .filter(({ dst, link }) => dst.prefix > 0 && !isOurs(host, link))
  const found = listNetworks().flatMap((list) =>
    subnetsOf(list).flatMap((subnet) =>
      routes
        .filter(({ dst }) => overlaps(formatCidr(dst), subnet))
        .map((route) => overlap(host, list.name, subnet, route)),
    ),
  )
  return found.length > 0 ? found : [ok(check, 'no route of the host leads into the range of a network')]
}

/** Bridges and links of labs carry our mark. */
const isOurs = (host: Place, index: number | undefined): boolean =>
  host.link(index)?.alias?.startsWith('ns-net:') ?? false

function overlap(host: Place, network: string, subnet: string, { dst, link }: Route): Check {
  const users = listLabs().filter(({ attachments }) => attachments.some((each) => each.network === network))
  const hidden = users.flatMap(({ name, attachments }) =>
    attachments.flatMap(({ addresses }) => addresses).some((address) => contains(dst, cidr(address).address))
      ? [name]
      : [],
  )
  const by = host.link(link)?.name
  const finding = `route ${formatCidr(dst)}${by ? ` by ${by}` : ''} overlaps ${subnet} of network ${network}`
  return {
    check: 'ranges',
    state: hidden.length > 0 ? 'fail' : 'warn',
    finding: hidden.length > 0 ? `${finding}: the host does not reach ${hidden.join(', ')}` : finding,
    ...(network === defaultNetwork && users.every(isPlain)
      ? { fix: renew(users) }
      : { advice: `make the network anew: another range is chosen, or given with --subnet` }),
  }
}

/** Nothing would be lost if the lab was made anew. */
const isPlain = ({ attachments, labels, dns, adopted }: Lab): boolean =>
  attachments.length === 1 && attachments.every(({ ports, args }) => !ports && !args) && !labels && !dns && !adopted

/** With the last lab the choice of the range goes. */
function renew(labs: readonly Lab[]): string {
  const names = labs.map(({ name }) => name)
  return [`ns-net del ${names.join(' ')}`, ...names.map((name) => `ns-net add ${name}`)].join(' && ')
}
