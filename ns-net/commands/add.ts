import fs from 'node:fs'
import { formatCidr } from '../../netlink-lib/ip.ts'
import { createNamedNetns, deleteNamedNetns } from '../../netlink-lib/netns.ts'
import { messageOf } from '../../plugins/contract/errors.ts'
import { Host } from '../../plugins/contract/host.ts'
import type { Result } from '../../plugins/contract/result.ts'
import { type ConfList, parseConfList } from '../conflist.ts'
import { ensureDefaultNetwork, releaseNetwork } from '../default-network.ts'
import { CliError, toCliError } from '../errors.ts'
import {
  checkLabName,
  exclusively,
  findLab,
  forgetLab,
  type LabAttachment,
  listNetnsNames,
  netnsPath,
  writeLab,
} from '../labs.ts'
import type { Report } from '../output.ts'
import { removeResolvConf, writeResolvConf } from '../resolv-conf.ts'
import { addNetwork, delNetwork } from '../runtime.ts'

export interface AddOptions {
  /** A conflist file instead of the default network. */
  readonly conf?: string
}

const ifName = 'eth0'

/** Creates a lab and attaches it. Whole or not at all: what fails is taken back in reverse order. */
export function add(name: string, options: AddOptions): Report {
  checkLabName(name)
  const started = performance.now()
  const attachment = exclusively(() => create(name, options))
  const { network, addresses, gateway, bridge } = attachment
  const nat = attachment.config.plugins.some((plugin) => plugin.ipMasq === true || plugin.type === 'nat')
  const path = [addresses.join(' '), gateway && `via ${gateway}`].filter(Boolean).join(' ')
  const parts = [name, path || 'no address', bridge && `bridge ${bridge}`, nat && 'nat on'].filter(Boolean)
  return {
    json: { name, netns: netnsPath(name), network, ifName, addresses, gateway, bridge, nat },
    text: `${parts.join('  ')}  (${Math.round(performance.now() - started)} ms)\ntry: ns-net exec ${name} -- ip addr | ns-net ping ${name}\n`,
  }
}

function create(name: string, options: AddOptions): LabAttachment {
  if (findLab(name))
    throw new CliError('conflict', `lab "${name}" already exists`, `ns-net show ${name}, or ns-net del ${name}`)
  if (listNetnsNames().includes(name))
    throw new CliError(
      'conflict',
      `a network namespace "${name}" already exists and was not made by ns-net`,
      `choose another name, or remove it: ip netns del ${name}`,
    )
  using host = new Host()
  const undo: [what: string, action: () => unknown][] = []
  try {
    const config = options.conf ? readConfList(options.conf) : ensureDefaultNetwork(host)
    undo.push(['release network', () => releaseNetwork(config, host)])
    // The record comes first: whatever happens from here on, `ns-net del` knows what to take back.
    const pending = { network: config.name, ifName, addresses: [], config }
    undo.push(['forget lab', () => forgetLab(name)])
    writeLab({ name, created: new Date().toISOString(), attachments: [pending] })
    undo.push(['delete namespace', () => deleteNamedNetns(name)])
    const netns = createNamedNetns(name)
    const target = { containerId: name, netns, ifName }
    const result = addNetwork(config, target, host)
    undo.push(['detach', () => delNetwork(config, target, host)])
    undo.push(['remove resolv.conf', () => removeResolvConf(name)])
    writeResolvConf(name, result.dns)
    const attachment = { ...pending, ...summary(result) }
    writeLab({ name, created: new Date().toISOString(), attachments: [attachment] })
    return attachment
  } catch (error) {
    for (const [what, action] of undo.reverse()) {
      try {
        action()
      } catch (failure) {
        host.warn(`ns-net: rollback: cannot ${what}: ${messageOf(failure)}`)
      }
    }
    throw toCliError(error, `cannot add "${name}"`)
  }
}

function readConfList(file: string): ConfList {
  let text: string
  try {
    text = fs.readFileSync(file, 'utf8')
  } catch (error) {
    throw new CliError('notFound', `cannot read ${file}: ${messageOf(error)}`)
  }
  try {
    return parseConfList(JSON.parse(text))
  } catch (error) {
    throw new CliError('usage', `${file}: ${messageOf(error)}`, 'conf-examples/ has complete configurations')
  }
}

/** What `ls` and `show` tell of an attachment without asking the kernel. */
function summary(result: Result): Pick<LabAttachment, 'addresses' | 'gateway' | 'bridge'> {
  return {
    addresses: result.ips.map(({ address }) => formatCidr(address)),
    gateway: result.ips.find(({ gateway }) => gateway)?.gateway,
    bridge: result.interfaces.find(({ sandbox, name }) => !sandbox && !name.startsWith('veth'))?.name,
  }
}
