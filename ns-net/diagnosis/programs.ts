import { hasProgram } from '../../nat/iptables.ts'
import { type Check, ok } from './checkup.ts'

/** Programs that people use beside ns-net, which itself needs none of them. */

const programs: readonly (readonly [name: string, packages: string, purpose: string])[] = [
  ['ip', 'iproute2', 'to look at links, addresses and routes'],
  ['nft', 'nftables', 'to look at rules'],
  ['iptables', 'iptables', 'for the backend iptables, and beside Docker'],
  ['unshare', 'util-linux', 'for labs of ordinary users'],
  ['nsenter', 'util-linux', 'to enter namespaces of processes'],
  ['tcpdump', 'tcpdump', 'to see packets; ns-net capture works without'],
]

/** One of them gives labs of ordinary users a way out. */
const uplinks = ['pasta', 'slirp4netns'] as const

const managers: readonly (readonly [program: string, install: string])[] = [
  ['apt-get', 'apt-get install -y'],
  ['dnf', 'dnf install -y'],
  ['zypper', 'zypper install -y'],
  ['pacman', 'pacman -S --noconfirm'],
  ['apk', 'apk add'],
]

export function checkPrograms(): Check[] {
  const install = managers.find(([program]) => hasProgram(program))?.[1]
  const remedy = (packages: string) =>
    install ? { fix: `${install} ${packages}` } : { advice: `install the package ${packages}` }
  const found = programs.map(([name, packages, purpose]): Check => {
    const check = `program-${name}`
    if (hasProgram(name)) return ok(check, 'installed')
    return { check, state: 'warn', finding: `not installed: ${purpose}`, ...remedy(packages) }
  })
  const uplink = uplinks.find(hasProgram)
  const check = `program-${uplinks.join('-or-')}`
  if (uplink) return [...found, ok(check, `${uplink} is installed`)]
  return [
    ...found,
    {
      check,
      state: 'warn',
      finding: 'not installed: labs of ordinary users have no way out',
      ...remedy('slirp4netns'),
    },
  ]
}
