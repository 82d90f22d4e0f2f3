import { Host } from '../../plugins/contract/host.ts'
import { publishesPorts } from '../attachments.ts'
import { CliError } from '../errors.ts'
import { exclusively, type Lab, listLabs } from '../labs.ts'
import { republish } from '../lifecycle.ts'
import { type Report, table } from '../output.ts'
import { formatPortMapping, type PortMapping, parsePortMappings } from '../port-mappings.ts'
import { requireLab } from './attach.ts'

/** Publishes ports of a lab that runs. */
export function addPorts(name: string, texts: readonly string[]): Report {
  const asked = texts.flatMap(parsePortMappings)
  return change(name, (ports) => {
    const twice = asked.find((each) => ports.some((other) => isSameOutside(each, other)))
    if (twice) throw new CliError('conflict', `"${name}" has published ${formatPortMapping(twice)} already`)
    return [...ports, ...asked]
  })
}

/** Takes published ports back: `8080:80`, or `8080` for all that the host's port leads to. */
export function rmPorts(name: string, texts: readonly string[]): Report {
  return change(name, (ports) => {
    let rest = ports
    for (const text of texts) {
      const before = rest
      const asked = parsePortMappings(text)
      const bare = /^\d+(\/\w+)?$/.test(text)
      const matches = (one: PortMapping) =>
        asked.some((other) => isSameOutside(one, other) && (bare || one.containerPort === other.containerPort))
      rest = rest.filter((each) => !matches(each))
      if (rest.length === before.length)
        throw new CliError('notFound', `"${name}" has not published ${text}`, `ns-net port ls ${name}`)
    }
    return rest
  })
}

const isSameOutside = (a: PortMapping, b: PortMapping): boolean =>
  a.hostPort === b.hostPort && a.protocol === b.protocol && a.hostIP === b.hostIP

function change(name: string, edit: (ports: readonly PortMapping[]) => readonly PortMapping[]): Report {
  const lab = exclusively(() => {
    const found = requireLab(name)
    const attachment = found.attachments.find(({ config }) => config.plugins.some(publishesPorts))
    if (!attachment)
      throw new CliError('usage', `"${name}" is attached to no network that publishes ports`, `ns-net show ${name}`)
    using host = new Host()
    return republish(found, attachment, edit(attachment.ports ?? []), host)
  })
  return lsPorts(lab)
}

/** What is published, of one lab or of all. */
export function lsPorts(lab?: Lab): Report {
  const rows = (lab ? [lab] : listLabs()).flatMap(({ name, attachments }) =>
    attachments.flatMap(({ network, addresses, ports = [] }) =>
      ports.map((port) => ({ lab: name, network, address: addresses[0]?.split('/')[0], ...port })),
    ),
  )
  return {
    json: rows,
    text: table(
      ['LAB', 'HOST', 'TO', 'PROTOCOL'],
      rows.map(({ lab: of, hostIP, hostPort, address, containerPort, protocol }) => [
        of,
        `${hostIP ?? '*'}:${hostPort}`,
        `${address ?? ''}:${containerPort}`,
        protocol,
      ]),
    ),
  }
}
