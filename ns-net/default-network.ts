import fs from 'node:fs'
import IPCIDR from 'ip-cidr'
import { Section } from '../config/reader.ts'
import { formatCidr } from '../netlink-lib/ip.ts'
import { type Host, isOurBridge } from '../plugins/contract/host.ts'
import { type ConfList, parseConfList } from './conflist.ts'
import { CliError } from './errors.ts'
import { listLabs, networkDirectory, removeIfEmpty } from './labs.ts'

export const defaultNetwork = 'default'
const bridgeName = 'nsbr0'
const file = `${networkDirectory}/${defaultNetwork}.conflist`

/** 10.88.0.0/16 and the fifteen after it: the first that no route or address of the host overlaps. */
const candidates = Array.from({ length: 16 }, (_, i) => `10.${88 + i}.0.0/16`)

const overlaps = (a: string, b: string) => {
  const [one, other] = [new IPCIDR(a), new IPCIDR(b)]
  return one.contains(other.start<string>()) || other.contains(one.start<string>())
}

/** The default network; its range is chosen when the first lab needs it and kept until the last is gone. */
export function ensureDefaultNetwork(host: Host): ConfList {
  if (fs.existsSync(file)) return parseConfList(JSON.parse(fs.readFileSync(file, 'utf8')))
  const taken = host.route
    .listRoutes(4)
    .map(({ dst }) => formatCidr(dst))
    .filter((dst) => !dst.endsWith('/0'))
  const subnet = candidates.find((candidate) => !taken.some((route) => overlaps(candidate, route)))
  if (!subnet)
    throw new CliError(
      'conflict',
      `no free address range: ${candidates[0]} to ${candidates.at(-1)} all overlap routes of this host`,
      'give a configuration with a range of your own: ns-net add NAME --conf FILE',
    )
  const list = {
    cniVersion: '1.1.0',
    name: defaultNetwork,
    plugins: [
      { type: 'loopback' },
      {
        type: 'bridge',
        bridge: bridgeName,
        isDefaultGateway: true,
        ipMasq: true,
        hairpinMode: true,
        ipam: { type: 'host-local', ranges: [[{ subnet }]] },
      },
      // Docker sets a FORWARD policy of DROP. With this backend nothing is done where nobody drops anything.
      { type: 'firewall', backend: 'nftables' },
    ],
  }
  fs.mkdirSync(networkDirectory, { recursive: true })
  fs.writeFileSync(file, `${JSON.stringify(list, undefined, 2)}\n`)
  return parseConfList(list)
}

/**
 * After a lab is gone: when it was the last of its network, the network's bridge goes too if it is ours and has no
 * port left, and so do the empty lease directory and, of the default network, the choice of its range.
 */
export function releaseNetwork(list: ConfList, host: Host): void {
  const stillUsed = listLabs().some(({ attachments }) => attachments.some(({ network }) => network === list.name))
  if (stillUsed) return
  for (const plugin of list.plugins) {
    const section = new Section(plugin)
    if (plugin.type === 'bridge') removeBridge(section.get('bridge')?.string() || 'cni0', list.name, host)
    removeLeaseDirectory(list.name, section.get('ipam')?.object().get('dataDir')?.string())
  }
  if (list.name === defaultNetwork) fs.rmSync(file, { force: true })
}

function removeBridge(name: string, network: string, host: Host): void {
  const bridge = host.route.findLink(name)
  if (!bridge || !isOurBridge(bridge, network)) return
  if (host.route.listLinks({ master: bridge.index }).length === 0) host.route.deleteLink(bridge.index)
}

/** Only bookkeeping may be left in there; a lease of another runtime on the same network keeps the directory. */
function removeLeaseDirectory(network: string, dataDir = '/var/lib/cni/networks'): void {
  const directory = `${dataDir}/${network}`
  if (!fs.existsSync(directory)) return
  const isBookkeeping = (name: string) => name === 'lock' || name.startsWith('last_reserved_ip.')
  if (!fs.readdirSync(directory).every(isBookkeeping)) return
  fs.rmSync(directory, { recursive: true })
  fs.rmSync(`${dataDir}/.ns-net/${network}`, { recursive: true, force: true })
  removeIfEmpty(`${dataDir}/.ns-net`)
}
