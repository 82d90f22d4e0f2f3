import fs from 'node:fs'
import zlib from 'node:zlib'
import { KernelError } from '../../netlink-lib/errors.ts'
import { appendRule, createChain, createTable, hooks, type TableRef } from '../../netlink-lib/nftables/commands.ts'
import { masquerade } from '../../netlink-lib/nftables/statements.ts'
import { traced } from '../../netlink-lib/nftables/trace.ts'
import { RouteSocket } from '../../netlink-lib/route/socket.ts'
import { type Check, type CheckState, isRoot, ok } from './checkup.ts'
import {
  createLink,
  createQdisc,
  filteringData,
  htbOptions,
  indexOf,
  macvlanData,
  netemOptions,
  type Trial,
  trialLink,
  tryOut,
  vlanData,
  vxlanData,
} from './kernel-trial.ts'

/**
 * What this kernel can do, tried in a network namespace that nobody else sees and that ends with the trial. Without the
 * right to make one, the kernel's own configuration is read where it is in /proc.
 */

interface Feature {
  readonly name: string
  /** Throws KernelError when the kernel cannot do it. */
  readonly probe: (trial: Trial) => void
  readonly option: string
  readonly module: string
  /** What does not work without it. */
  readonly without: string
  readonly lack: CheckState
}

const table: TableRef = { family: 'inet', name: 'trial' }
const chainOf = (type: 'nat' | 'filter') =>
  createChain(table, 'postrouting', { type, number: hooks.postrouting, priority: 100 })

const features: readonly Feature[] = [
  {
    name: 'veth',
    probe: (trial) => createLink(trial, 'v2', 'veth'),
    option: 'CONFIG_VETH',
    module: 'veth',
    without: 'no lab can be connected',
    lack: 'fail',
  },
  {
    name: 'bridge',
    probe: (trial) => createLink(trial, 'br0', 'bridge'),
    option: 'CONFIG_BRIDGE',
    module: 'bridge',
    without: 'only --ptp networks work',
    lack: 'fail',
  },
  {
    name: 'nf_tables',
    probe: ({ netfilter }) => netfilter.transaction([createTable(table)]),
    option: 'CONFIG_NF_TABLES',
    module: 'nf_tables',
    without: 'translation needs the programs of iptables',
    lack: 'warn',
  },
  {
    name: 'nft-nat',
    probe: ({ netfilter }) => netfilter.transaction([createTable(table), chainOf('nat')]),
    option: 'CONFIG_NFT_NAT',
    module: 'nft_chain_nat',
    without: 'translation needs the programs of iptables',
    lack: 'warn',
  },
  {
    name: 'nft-masquerade',
    probe: ({ netfilter }) =>
      netfilter.transaction([createTable(table), chainOf('nat'), appendRule(table, 'postrouting', masquerade())]),
    option: 'CONFIG_NFT_MASQ',
    module: 'nft_masq',
    without: 'translation needs the programs of iptables',
    lack: 'warn',
  },
  {
    name: 'nft-tracing',
    probe: ({ netfilter }) =>
      netfilter.transaction([createTable(table), chainOf('filter'), appendRule(table, 'postrouting', traced())]),
    option: 'CONFIG_NF_TABLES',
    module: 'nf_tables',
    without: 'ns-net why --live names no rule',
    lack: 'warn',
  },
  {
    name: 'vxlan',
    probe: (trial) => createLink(trial, 'vx0', 'vxlan', vxlanData),
    option: 'CONFIG_VXLAN',
    module: 'vxlan',
    without: 'no links between hosts',
    lack: 'warn',
  },
  {
    name: 'macvlan',
    probe: (trial) => createLink(trial, 'mv0', 'macvlan', macvlanData, trialLink),
    option: 'CONFIG_MACVLAN',
    module: 'macvlan',
    without: 'no networks with the driver macvlan',
    lack: 'warn',
  },
  {
    name: 'ifb',
    probe: (trial) => createLink(trial, 'ifb9', 'ifb'),
    option: 'CONFIG_IFB',
    module: 'ifb',
    without: 'plugin bandwidth limits one direction only',
    lack: 'warn',
  },
  {
    name: 'tbf',
    probe: ({ netlink }) => {
      using route = new RouteSocket()
      route.createBucket(
        { index: indexOf(netlink, trialLink), name: trialLink },
        { rate: 125_000, burst: 10_000, limit: 100_000 },
      )
    },
    option: 'CONFIG_NET_SCH_TBF',
    module: 'sch_tbf',
    without: 'rates cannot be limited',
    lack: 'warn',
  },
  {
    name: 'htb',
    probe: (trial) => createQdisc(trial, 'htb', htbOptions),
    option: 'CONFIG_NET_SCH_HTB',
    module: 'sch_htb',
    without: 'rates cannot be shared by classes',
    lack: 'warn',
  },
  {
    name: 'netem',
    probe: (trial) => createQdisc(trial, 'netem', netemOptions),
    option: 'CONFIG_NET_SCH_NETEM',
    module: 'sch_netem',
    without: 'packets cannot be delayed',
    lack: 'warn',
  },
  {
    name: 'vlan-filtering',
    probe: (trial) => {
      createLink(trial, 'br1', 'bridge', filteringData)
      using route = new RouteSocket()
      if (route.getLink('br1').vlanFiltering !== true) throw new KernelError('filter VLANs with', 'br1', 95) // EOPNOTSUPP
    },
    option: 'CONFIG_BRIDGE_VLAN_FILTERING',
    module: 'bridge',
    without: 'the keys vlan and vlanTrunk of bridge do not work',
    lack: 'warn',
  },
  {
    name: '8021q',
    probe: (trial) => createLink(trial, 'vlan7', 'vlan', vlanData, trialLink),
    option: 'CONFIG_VLAN_8021Q',
    module: '8021q',
    without: 'no VLAN interfaces',
    lack: 'warn',
  },
]

export function checkKernel(): Check[] {
  const release = fs.readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim()
  const [major = 0, minor = 0] = release.split('.').map(Number)
  const isOld = major < 4 || (major === 4 && minor < 19)
  const kernel: Check = isOld
    ? { check: 'kernel', state: 'warn', finding: `${release}: older than 4.19, untested`, advice: 'upgrade the kernel' }
    : ok('kernel', release)
  return [kernel, ...features.map((feature) => checkFeature(feature, release))]
}

function checkFeature(feature: Feature, release: string): Check {
  const { name, option, module, without, lack } = feature
  const refused = isRoot() ? tryOut(feature.probe) : undefined
  if (isRoot() && !refused) return ok(name, 'works')
  if (!isRoot() || refused === 'may not be tried') return fromConfiguration(feature)
  const isInstalled = moduleFile(module, release)
  return {
    check: name,
    state: lack,
    finding: `missing: ${without}`,
    ...(isInstalled ? { fix: `modprobe ${module}` } : { advice: `this kernel was built without ${option}` }),
  }
}

function fromConfiguration({ name, option, without, lack }: Feature): Check {
  const text = configuration()
  if (text === undefined) return { check: name, state: 'unknown', finding: 'only root can try it' }
  return new RegExp(`^${option}=[ym]$`, 'm').test(text)
    ? ok(name, `${option} is set`)
    : { check: name, state: lack, finding: `missing: ${without}`, advice: `this kernel was built without ${option}` }
}

function configuration(): string | undefined {
  try {
    return zlib.gunzipSync(fs.readFileSync('/proc/config.gz')).toString()
  } catch {
    return undefined // CONFIG_IKCONFIG_PROC is not set
  }
}

function moduleFile(module: string, release: string): boolean {
  try {
    const known = fs.readFileSync(`/lib/modules/${release}/modules.dep`, 'utf8')
    return new RegExp(`/${module}\\.ko`).test(known)
  } catch {
    return false // no modules on this machine
  }
}
