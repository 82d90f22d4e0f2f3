import type { Difference } from './compare.ts'

/** A difference that is meant to be there. */
export interface Deviation {
  /** What it is about: the first column of docs/differences.md. */
  readonly subject: string
  readonly reference: string
  readonly ours: string
  /** One sentence. */
  readonly why: string
  /** Which differences it accounts for. */
  readonly path: RegExp
  readonly when?: (reference: unknown, ours: unknown) => boolean
  /** Scenarios that must show it: in one that no longer does, the entry is wrong. */
  readonly seenIn: readonly string[]
  /** It may show in other scenarios as well. */
  readonly elsewhere?: true
}

const absent = (value: unknown) => value === undefined
const onlyOurs = (reference: unknown, ours: unknown) => absent(reference) && !absent(ours)
const onlyTheirs = (reference: unknown, ours: unknown) => !absent(reference) && absent(ours)
const weSucceed = (_reference: unknown, ours: unknown) => ours === 'success'
const theySucceed = (reference: unknown) => reference === 'success'

/** What an ADD or DEL that only one of the two carries out makes or leaves. */
const links = '(host / links / (host end of .*|cni0|br0)|c\\d / links / eth\\d)'
const leaseFiles = 'files / /var/lib/cni/.*'
const forwarding = '(host / (sysctls / ipv4/.*|links / .* / sysctls / ipv4 forwarding))' // ip_forward resets accept_redirects as well

const of = (plugin: string, ...names: string[]) => names.map((name) => `${plugin}: ${name}`)
const pattern = (...alternatives: string[]) => new RegExp(`^(${alternatives.join('|')})$`)

/** Differences in favour of the user, or of no consequence: docs/differences.md is made of this list. */
export const deviations: readonly Deviation[] = [
  // Links
  {
    subject: 'name of the link on the host',
    reference: '`veth` and 8 random hexadecimal digits',
    ours: '`veth` and 11 digits derived from network, container id and interface name',
    why: 'DEL finds the link without the namespace and without the result of ADD.',
    path: /links \/ host end of .* \/ form of the name$/,
    when: (reference, ours) => reference === 'veth########' && ours === 'veth###########',
    seenIn: of('bridge', 'named bridge'),
    elsewhere: true,
  },
  {
    subject: 'alias of links',
    reference: 'none',
    ours: 'links and bridges carry an alias that begins with `ns-net:` and names the attachment',
    why: 'GC deletes only what is marked as ours.',
    path: /^host \/ links \/ .* \/ ifalias$/,
    when: (reference, ours) => absent(reference) && String(ours).startsWith('ns-net:'),
    seenIn: of('bridge', 'named bridge').concat(of('ptp', 'IPv4')),
    elsewhere: true,
  },
  {
    subject: 'group of bridges',
    reference: 'the default one',
    ours: '28275, which marks a bridge as ours',
    why: 'A link is born in its group, and gets its alias a moment later.',
    path: /^host \/ links \/ (cni0|br\d) \/ group$/,
    when: (reference, ours) => reference === 'default' && ours === '28275',
    seenIn: of('bridge', 'named bridge'),
    elsewhere: true,
  },
  {
    subject: 'transmit queue length of links',
    reference: '0',
    ours: "the kernel's default, 1000",
    why: 'The 0 is a default of the library that the reference is written with, and a queue set up on the link later would drop nearly everything.',
    path: /\/ txqlen$/,
    when: (reference, ours) => absent(reference) && ours === 1000,
    seenIn: of('bridge', 'named bridge'),
    elsewhere: true,
  },
  {
    subject: 'what a failed ADD leaves',
    reference: 'links, a new bridge and the MAC that it took from its port stay until DEL, if one comes',
    ours: 'nothing: everything that this call made is removed again, and nothing is made before the configuration is checked',
    why: 'The CNI specification leaves it open, and runtimes that give up do not always send a DEL.',
    path: pattern(links, 'host / links / (cni0|br0) / address'),
    when: (_reference, ours) => absent(ours) || ours === '00:00:00:00:00:00',
    seenIn: [
      ...of(
        'bridge',
        'interface that is there already',
        'route through an unreachable gateway',
        'another address on the bridge',
        'same gateway with another prefix length',
        'overlapping IPv6 subnets on one bridge',
        'MAC that is none',
        'MAC that is a group address',
        'static without addresses',
        'ipam that is not installed',
        'ipam type with a slash',
        'no address left',
        'several range sets of one family',
        'no ipam, cniVersion 0.2.0',
      ),
      ...of('ptp', 'address without gateway'),
    ],
  },
  {
    subject: 'lo after a failed ADD',
    reference: 'up',
    ours: 'down again, if it was down before',
    why: 'An ADD that fails leaves nothing.',
    path: pattern('c1 / links / lo / .*', 'outcome'),
    seenIn: of('loopback', 'address that is no loopback address', 'IPv6 address that is no loopback address'),
  },
  {
    subject: 'forwarding after a failed ADD of ptp',
    reference: 'switched on before it fails',
    ours: 'not switched on, as the request is checked first',
    why: 'A call that fails changes nothing on the host.',
    path: pattern(forwarding),
    seenIn: of('ptp', 'address without gateway', 'interface that is there already'),
  },
  {
    subject: 'DEL without a namespace',
    reference: 'releases the addresses and leaves the link',
    ours: 'deletes the link as well',
    why: 'The link has a derived name, so the namespace is not needed to find it.',
    path: pattern(links),
    when: onlyTheirs,
    seenIn: [
      ...of(
        'bridge',
        'deleted with an empty CNI_NETNS',
        'deleted without CNI_NETNS',
        'masquerading deleted with an empty CNI_NETNS',
      ),
      ...of('ptp', 'deleted with an empty CNI_NETNS'),
    ],
  },
  {
    subject: 'DEL when a plain file is left where the namespace was',
    reference: 'fails for ever, and bridge keeps the addresses',
    ours: 'counts as gone, like a path with nothing there',
    why: 'That file is what an unmounted namespace leaves, so DEL comes with such paths after a crash.',
    path: pattern('outcome', leaseFiles),
    when: (reference, ours) => ours === 'success' || onlyTheirs(reference, ours),
    seenIn: [
      'bridge: deleted with a plain file as namespace',
      'ptp: deleted with a plain file as namespace',
      'loopback: deleted with a plain file as namespace',
    ],
  },
  {
    subject: "DEL where the interface is somebody else's",
    reference: 'deletes whatever has the name in CNI_IFNAME',
    ours: 'deletes the link that an ADD of this attachment made, and nothing else',
    why: 'Only what is ours is ever deleted.',
    path: pattern(links),
    when: onlyOurs,
    seenIn: of('bridge', "deleted where the interface is somebody else's"),
  },
  {
    subject: 'masquerading after DEL without a namespace',
    reference: 'the rules stay, and translate whoever gets the address next',
    ours: 'removed',
    why: 'Which addresses the attachment had is known from its lease.',
    path: /^source address$/,
    when: (reference, ours) => reference === '192.0.2.1' && ours === '10.1.0.2',
    seenIn: ['bridge: masquerading deleted with an empty CNI_NETNS', 'ptp: masquerading deleted after the namespace'],
  },

  // IPv6
  {
    subject: 'duplicate address detection of assigned addresses',
    reference:
      'IPv6 addresses are added as tentative; ptp waits for them, and those of a bridge are not usable at once',
    ours: 'IPv6 addresses are added with the flag `nodad`, unless `enabledad` is set',
    why: 'IPAM gives an address to one container only, and detection costs one to two seconds.',
    path: /\/ addresses \/ [^/]+\/\d+ \/ nodad$/,
    when: (reference, ours) => absent(reference) && ours === true,
    seenIn: ['bridge: isGateway both families', 'ptp: IPv6'],
    elsewhere: true,
  },
  {
    subject: 'duplicate address detection of link-local addresses on the host',
    reference: 'as the host has it',
    ours: '`accept_dad` is 0 on links and bridges that ADD made',
    why: 'Nobody else is on a link just made, and until its link-local address is confirmed the host can look up no IPv6 neighbour there.',
    path: /^host \/ links \/ .* \/ sysctls \/ ipv6 accept_dad$/,
    when: (reference, ours) => reference === '1' && ours === '0',
    seenIn: ['bridge: named bridge', 'ptp: IPv6'],
    elsewhere: true,
  },
  {
    subject: '`keep_addr_on_down` of an interface with IPv6 addresses',
    reference: '0 in version 1.1.1',
    ours: '1, as in later versions of the reference',
    why: 'An interface that is taken down and up again keeps its addresses.',
    path: /^c\d \/ links \/ .* \/ sysctls \/ ipv6 keep_addr_on_down$/,
    when: (reference, ours) => reference === '0' && ours === '1',
    seenIn: ['bridge: isGateway IPv6', 'ptp: IPv6'],
    elsewhere: true,
  },

  {
    subject: "IPv6 of a bridge's port on the host",
    reference: 'on, with a link-local address; router advertisements are refused',
    ours: 'off: `disable_ipv6` is 1, and there is nothing to refuse',
    why: 'The host speaks by the bridge, and what a new port says of itself all others of the bridge would hear.',
    path: /^host \/ links \/ host end of .* \/ sysctls \/ ipv6 (disable_ipv6|accept_ra)$/,
    when: (reference, ours) => reference === '0' && ours !== '0',
    seenIn: ['bridge: named bridge', 'bridge: host that has accept_ra 2'],
    elsewhere: true,
  },
  {
    subject: 'neighbours of an IPv6 address that was asked for',
    reference: 'go on sending to the MAC of an earlier owner for a minute, as those of an IPv4 address do',
    ours: 'are told: `ndisc_notify` is 1, and the MAC is set once more when the port is up',
    why: 'What the kernel says when a link comes up is lost, as the port passes nothing yet.',
    path: /^c\d \/ links \/ eth\d \/ sysctls \/ ipv6 ndisc_notify$/,
    when: (reference, ours) => reference === '0' && ours === '1',
    seenIn: of('bridge', 'static addresses of both families'),
    elsewhere: true,
  },

  // Routes
  {
    subject: 'scope of routes without any gateway',
    reference: 'global',
    ours: 'link',
    why: 'It is what ip(8) does, and only through such a route can the gateway of another route be reached.',
    path: /^c\d \/ links \/ .* \/ routes \/ .* \/ scope$/,
    when: (reference, ours) => reference === 'global' && ours === 'link',
    seenIn: of('bridge', 'route without any gateway'),
  },
  {
    subject: 'a route that is there already',
    reference: 'ADD fails in version 1.1.1',
    ours: 'is left as it is',
    why: 'The result says that the route is there, and it is.',
    path: pattern('outcome', links, leaseFiles, forwarding, 'host / links / cni0 / .*'),
    seenIn: of('bridge', 'the same route twice', 'isDefaultGateway beside a default route without gateway'),
  },
  {
    subject: 'routes whose destination has host bits',
    reference: 'ADD fails',
    ours: 'the bits are cleared',
    why: 'There is only one network that can be meant.',
    path: pattern('outcome', leaseFiles, 'c1 / links / eth0 / routes / IPv4 unicast 172\\.16\\.0\\.0/12 table main'),
    seenIn: of('bridge', 'route with host bits in its destination'),
  },
  {
    subject: 'mtu, advmss, priority, table and scope of routes',
    reference: 'unknown to version 1.1.1, and mtu and advmss are applied by no version',
    ours: 'applied',
    why: 'The CNI specification defines them since version 1.1.0.',
    path: /^c1 \/ links \/ eth0 \/ routes \/ IPv4 unicast 172\.16\.0\.0\/12 table (main|100)$/,
    seenIn: of('bridge', 'route with attributes of version 1.1'),
  },
  {
    subject: 'CHECK of routes without gateway',
    reference: 'never finds a route for which the configuration gives no gateway, but for default routes',
    ours: 'finds it by its destination',
    why: 'ADD fills in the gateway, so that CHECK of an untouched container failed.',
    path: /^outcome$/,
    when: weSucceed,
    seenIn: ['bridge: routes of both families', 'ptp: routes with and without gateway'],
  },
  {
    subject: 'ptp with a gateway outside the prefix of the address',
    reference: 'ADD fails as soon as there is a route, and leaves its link',
    ours: 'works',
    why: 'A single address behind a link-local gateway is a usual way to connect containers.',
    path: pattern('outcome', links, 'host / links / host end of c1 eth0 / .*', 'c1 / links / eth0 / .*'),
    seenIn: of('ptp', 'single addresses'),
  },

  // Configuration
  {
    subject: 'CHECK of a bridge without IPAM',
    reference: 'always fails',
    ours: 'checks the links',
    why: 'There is no IPAM to ask.',
    path: /^outcome$/,
    when: weSucceed,
    seenIn: of(
      'bridge',
      'no ipam',
      'empty ipam',
      'ipam with an empty type',
      'no ipam, isGateway',
      'no ipam, ipMasq',
      'MAC in CNI_ARGS',
    ),
  },
  {
    subject: 'DNS settings that the IPAM plugin returns',
    reference: 'lost by bridge in version 1.1.1',
    ours: 'in the result, unless the configuration has its own, as in later versions of the reference',
    why: 'They would be configured for nothing.',
    path: /^result \/ dns \/ (nameservers|domain|search)$/,
    when: onlyOurs,
    seenIn: of(
      'bridge',
      'static addresses of both families',
      'dns in the IPAM',
      'dns in both, in the configuration an empty object',
    ),
  },
  {
    subject: 'empty `bridge`',
    reference: 'ADD fails',
    ours: 'counts as absent: `cni0`',
    why: 'Templates leave an empty text where nothing is set.',
    path: pattern('outcome', links, leaseFiles),
    when: (reference, ours) => ours === 'success' || onlyOurs(reference, ours),
    seenIn: of('bridge', 'empty name of the bridge'),
  },
  {
    subject: 'negative `mtu`',
    reference: 'is ignored',
    ours: 'is refused',
    why: 'It is a mistake, and the person who made it should know.',
    path: pattern('outcome', links, leaseFiles, forwarding),
    when: (reference, ours) => theySucceed(reference) || onlyTheirs(reference, ours) || ours === '0' || ours === '1',
    seenIn: ['bridge: mtu negative', 'ptp: mtu negative'],
  },
  {
    subject: '`CNI_ARGS` of bridge and host-local',
    reference: 'bridge refuses IP, host-local and static refuse MAC, unless `IgnoreUnknown=1` is there',
    ours: 'IP, GATEWAY and MAC are known to all of them, and DEL cares for no argument',
    why: 'They come for the plugin and its IPAM in one variable, and nothing should stop a DEL.',
    path: pattern('outcome', links, leaseFiles, forwarding, 'host / links / cni0 / address'),
    seenIn: [
      'bridge: IP in CNI_ARGS alone',
      'bridge: deleted with unknown CNI_ARGS',
      'bridge: deleted with malformed CNI_ARGS',
      'ptp: unknown CNI_ARGS',
      'host-local: MAC in CNI_ARGS',
    ],
  },
  {
    subject: 'DEL of ptp without an ipam section',
    reference: 'fails, and the link stays',
    ours: 'deletes the link',
    why: 'Whose link it is does not depend on the addresses.',
    path: pattern('outcome', links),
    seenIn: of('ptp', 'no ipam', 'empty ipam', 'deleted without ipam'),
  },
  {
    subject: 'DEL with ranges that are wrong',
    reference: 'fails, and the addresses stay',
    ours: 'releases the addresses',
    why: 'Where the leases are and whose they are does not depend on the ranges.',
    path: pattern('outcome', leaseFiles),
    when: (reference, ours) => ours === 'success' || onlyTheirs(reference, ours),
    seenIn: of('bridge', 'deleted with ranges that are wrong'),
  },
  {
    subject: 'DEL with an ipam section that is no object, or whose type is no text',
    reference: 'fails, and link and addresses stay',
    ours: 'deletes link and rules; the addresses stay, as without a section',
    why: 'Whose link it is does not depend on the addresses.',
    path: pattern('outcome', links, 'host / links / cni0 / address'),
    when: (reference, ours) => ours === 'success' || onlyTheirs(reference, ours) || reference === 'made up',
    seenIn: of('bridge', 'deleted with ipam as text', 'deleted with a type of ipam that is a number'),
  },

  // Leases
  {
    subject: "permissions of host-local's files",
    reference: '0644 in version 1.1.1',
    ours: '0600, as in later versions of the reference',
    why: "Who has which address is nobody else's business.",
    path: /^files \/ .* \/ mode$/,
    when: (reference, ours) => reference === '644' && ours === '600',
    seenIn: of('host-local', 'one subnet'),
    elsewhere: true,
  },
  {
    subject: "host-local's folder after DEL or CHECK of what was never added",
    reference: 'made',
    ours: 'not made',
    why: 'There is nothing to keep in it.',
    path: /^files \/ \/var\/lib\/cni\/networks\/(net\/(lock)?)?$/,
    when: onlyTheirs,
    seenIn: ['host-local: released without lease', 'bridge: deleted without having been added'],
    elsewhere: true,
  },
  {
    subject: '`last_reserved_ip` after an ADD that fails',
    reference: 'names the address that was taken and given back',
    ours: 'unchanged',
    why: 'All range sets are looked at before an address is taken from one.',
    path: /^files \/ .*\/last_reserved_ip\.0( \/ text)?$/,
    seenIn: [
      ...of(
        'host-local',
        'two IPs of one set',
        'IP of no range',
        'IP of the network',
        'IP of broadcast',
        'IP that is taken in the second set',
      ),
      'ptp: interface that is there already',
    ],
  },
  {
    subject: 'routes without `dst` in the ipam section',
    reference: 'accepted, and in the result with `<nil>` as destination',
    ours: 'refused',
    why: 'No other plugin can read such a result.',
    path: pattern('outcome', leaseFiles),
    when: (reference, ours) => theySucceed(reference) || onlyTheirs(reference, ours),
    seenIn: of('host-local', 'route without destination'),
  },

  // Results and errors
  {
    subject: 'results of loopback before version 1.0.0',
    reference: 'the shape of version 1.0.0 under an older label',
    ours: 'the shape of the version asked for',
    why: 'A runtime that speaks the older version cannot read the newer one.',
    path: /^result \/ (interfaces|ips|ip4|ip6)$/,
    seenIn: [
      ...of('loopback', ...['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0'].map((version) => `cniVersion ${version}`)),
      'contract: CHECK with cniVersion 0.3.1',
    ],
  },
  {
    subject: 'empty `dns` in results of version 1.0.0',
    reference: '`"dns": {}` in version 1.1.1',
    ours: 'left out, as in later versions of the reference',
    why: 'The specification makes it optional.',
    path: /^result \/ dns$/,
    when: (reference, ours) => JSON.stringify(reference) === '{}' && absent(ours),
    seenIn: ['bridge: named bridge', 'ptp: IPv4', 'host-local: one subnet', 'loopback: one life'],
    elsewhere: true,
  },
  {
    subject: 'codes of errors',
    reference: '999 for most errors',
    ours: 'the code of the specification or one of [ours](errors.md)',
    why: 'A runtime can tell what to do from the code alone.',
    path: /^error \/ code$/,
    when: (reference, ours) => reference === 999 && ours !== 999,
    seenIn: ['bridge: mtu as text', 'bridge: no address left', 'ptp: no ipam', 'host-local: no ranges'],
    elsewhere: true,
  },
  {
    subject: 'codes of configurations of the wrong type',
    reference: '6 for a wrong type of `name` or `cniVersion`, 7 for `null` in place of the configuration',
    ours: '7 for a wrong type of a key, 6 for what is no JSON object',
    why: 'The code says whether the document or one of its values is to be corrected.',
    path: /^error \/ code$/,
    when: (reference, ours) => (reference === 6 && ours === 7) || (reference === 7 && ours === 6),
    seenIn: of('contract', 'null on stdin', 'name as number', 'cniVersion as number'),
  },
  {
    subject: '`cniVersion` in errors',
    reference: 'missing',
    ours: 'that of the configuration, or else 1.1.0',
    why: 'The specification asks for it.',
    path: /^error \/ names its cniVersion$/,
    when: (reference, ours) => reference === false && ours === true,
    seenIn: ['bridge: no address left', 'contract: no name'],
    elsewhere: true,
  },
  {
    subject: 'version 1.1.0 of the specification',
    reference: 'unknown to version 1.1.1',
    ours: 'spoken, with GC and STATUS',
    why: 'It is the current one.',
    path: pattern('outcome', 'result / (cniVersion|supportedVersions)', 'error / code', 'c1 / links / lo / .*'),
    seenIn: of(
      'contract',
      'VERSION',
      'VERSION without anything on stdin',
      'VERSION of an unknown version',
      'VERSION with nothing else in the environment',
      'STATUS',
      'GC',
      'cniVersion 1.1.0',
    ),
  },
  {
    subject: "ADD with the host's own namespace as CNI_NETNS",
    reference: 'works in version 1.1.1, later versions fail after the work is done',
    ours: 'fails with code 8 before anything is touched, unless `CNI_NETNS_OVERRIDE` is set',
    why: 'It would move links and routes into the host.',
    path: /^outcome$/,
    when: theySucceed,
    seenIn: of('contract', 'CNI_NETNS of the host'),
  },

  // Changing from one set to the other
  {
    subject: 'DEL by the reference of an attachment of ours with ipMasq',
    reference: 'removes chains that are named after the container',
    ours: 'it reports that it cannot find its chain, after it has removed link and lease; our GC removes the rest',
    why: 'Our rules are made per network, so that their number does not grow with the containers.',
    path: /^outcome$/,
    when: theySucceed,
    seenIn: of('bridge', 'added and deleted by the reference in between'),
  },
  {
    subject: 'CHECK and DEL of an attachment that the reference made',
    reference: 'CHECK passes, and DEL deletes link and rules',
    ours: 'CHECK fails; DEL releases the addresses, and leaves the link, which goes with its namespace, and the chains `CNI-…` of iptables',
    why: 'Only what is ours is ever deleted: empty a node of containers before its plugins are exchanged.',
    path: pattern(
      'outcome',
      links,
      'source address',
      'host / links / host end of c\\d eth0 / routes / .*', // the routes of the container that got the address next
    ),
    seenIn: ['bridge: added by the reference', 'ptp: added by the reference'],
  },
]

/** Differences where ours is wrong. An entry goes when its fault does; what is left in here is to be mended. */
export const faults: readonly Deviation[] = []

/** What of a difference an entry accounts for. */
export function accountsFor(entry: Deviation, scenario: string, { path, reference, ours }: Difference): boolean {
  if (!entry.elsewhere && !entry.seenIn.includes(scenario)) return false
  return entry.path.test(path) && (entry.when?.(reference, ours) ?? true)
}
