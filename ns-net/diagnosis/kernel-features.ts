import fs from 'node:fs'
import zlib from 'node:zlib'
import { attributes, type Codec, raw, struct, u16, u32 } from '../../netlink-lib/bytes.ts'
import { KernelError } from '../../netlink-lib/errors.ts'
import { checked, libc } from '../../netlink-lib/libc.ts'
import { Netns } from '../../netlink-lib/netns.ts'
import { appendRule, createChain, createTable, hooks, type TableRef } from '../../netlink-lib/nftables/commands.ts'
import { NetfilterSocket } from '../../netlink-lib/nftables/netfilter-socket.ts'
import { masquerade } from '../../netlink-lib/nftables/statements.ts'
import { traced } from '../../netlink-lib/nftables/trace.ts'
import { RouteSocket } from '../../netlink-lib/route/socket.ts'
import { trafficMessage } from '../../netlink-lib/route/traffic-control.ts'
import { linkMessage, messageTypes } from '../../netlink-lib/route/wire.ts'
import { flags, NetlinkSocket, protocols } from '../../netlink-lib/socket.ts'
import { type Check, type CheckState, isRoot, ok } from './checkup.ts'

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

/** The sockets of the throw-away namespace. */
interface Trial {
  readonly netlink: NetlinkSocket
  readonly netfilter: NetfilterSocket
}

/** IFLA_VXLAN_ID, IFLA_VLAN_ID, IFLA_MACVLAN_MODE: the one setting that each of these links must have. */
const number = (codec: Codec<number>) => attributes({ value: [1, codec] })
const vxlanData = number(u32).encode({ value: 1 })
const vlanData = number(u16).encode({ value: 7 })
const macvlanData = number(u32).encode({ value: 4 }) // MACVLAN_MODE_BRIDGE
const filteringData = attributes({ filtering: [7, raw] }).encode({ filtering: Buffer.from([1]) }) // IFLA_BR_VLAN_FILTERING

function createLink({ netlink }: Trial, name: string, kind: string, data?: Buffer, lower?: string): void {
  const peerIndex = lower === undefined ? undefined : indexOf(netlink, lower)
  netlink.request({
    type: messageTypes.newLink,
    flags: flags.create | flags.exclusive,
    body: linkMessage.encode({ name, peerIndex, info: { kind, data } }),
    operation: `create ${kind}`,
    subject: name,
  })
}

function indexOf(netlink: NetlinkSocket, name: string): number {
  const body = linkMessage.encode({ name })
  const [reply] = netlink.request({ type: messageTypes.getLink, body, operation: 'get link', subject: name })
  return linkMessage.decode(reply!.body).index!
}

/** One of the two ends of a veth that every trial has. */
const trialLink = 'v0'

function createQdisc({ netlink }: Trial, kind: string, options: Buffer): void {
  netlink.request({
    type: 36, // RTM_NEWQDISC
    flags: flags.create | flags.replace,
    body: trafficMessage.encode({
      index: indexOf(netlink, trialLink),
      handle: 0x10000,
      parent: 0xffffffff, // TC_H_ROOT
      kind,
      options,
    }),
    operation: `create qdisc ${kind}`,
    subject: trialLink,
  })
}

/** TCA_HTB_INIT of struct tc_htb_glob. */
const htbOptions = attributes({
  init: [2, struct({ version: u32, quantum: u32, defaultClass: u32, debug: u32, direct: u32 })],
}).encode({ init: { version: 3, quantum: 10 } })

/** struct tc_netem_qopt. */
const netemOptions = struct({ latency: u32, limit: u32, loss: u32, gap: u32, duplicate: u32, jitter: u32 }).encode({
  limit: 1000,
})

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
  const refused = isRoot() ? tryOut(feature) : undefined
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

/** What the kernel said; undefined when it works. */
function tryOut(feature: Feature): string | undefined {
  using home = Netns.own()
  if (libc.unshare(0x40000000) < 0) return 'may not be tried' // CLONE_NEWNET
  try {
    using netlink = new NetlinkSocket(protocols.route)
    using netfilter = new NetfilterSocket()
    const trial = { netlink, netfilter }
    createLink(trial, trialLink, 'veth')
    feature.probe(trial)
    return undefined
  } catch (error) {
    if (error instanceof KernelError) return error.message
    throw error
  } finally {
    checked(libc.setns(home.fd, 0x40000000), 'return to network namespace of', 'the host')
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
