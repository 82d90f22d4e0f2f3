import { isKernelError } from '../../netlink-lib/errors.ts'
import { cidr } from '../../netlink-lib/ip.ts'
import type { RouteSettings } from '../../netlink-lib/route/route.ts'
import type { Container, Host } from '../../plugins/contract/host.ts'
import { openPlace } from '../cables.ts'
import { CliError } from '../errors.ts'
import { writeLab } from '../labs.ts'
import type { RouteEntry } from './document.ts'
import { dotted } from './format.ts'
import { routeProtocol } from './node-plan.ts'
import { labOf } from './site.ts'
import type { Step } from './steps.ts'

/** What is set inside a namespace besides its networks. */

type Of<Kind extends Step['kind']> = Extract<Step, { kind: Kind }>

/** The record keeps what the setting was before the first change; with `back` it is that again, and forgotten. */
export function setSetting({ lab: name, name: setting, value, back = false }: Of<'set sysctl'>, host: Host): void {
  const lab = labOf(name)
  using container = openPlace(host, name)
  const path = setting.split('/').slice(1)
  const before = container.sysctl.find(path)
  if (before === undefined) {
    if (!back)
      throw new CliError(
        'notFound',
        `"${name}" has no setting ${dotted(setting)}`,
        'it is misspelt, this kernel lacks it, or its link is not there',
      )
  } else container.sysctl.set(path, value)
  const { [setting]: first, ...others } = lab.sysctls ?? {}
  const sysctls = back ? others : { ...others, [setting]: first ?? before! }
  const { sysctls: _, ...rest } = lab
  writeLab({ ...rest, ...(Object.keys(sysctls).length > 0 && { sysctls }) })
}

function routeSettings({ dst, via, dev }: RouteEntry, { route }: Container): RouteSettings {
  return { dst: cidr(dst), gateway: via, link: dev === undefined ? undefined : route.getLink(dev).index }
}

export function addRoute({ lab, route }: Of<'add route'>, host: Host): void {
  using container = openPlace(host, lab)
  try {
    container.route.addRoute({ ...routeSettings(route, container), protocol: routeProtocol })
  } catch (error) {
    if (!isKernelError(error, 'EEXIST')) throw error
  }
}

export function deleteRoute({ lab, route }: Of<'delete route'>, host: Host): void {
  using container = openPlace(host, lab)
  container.route.deleteRoute(routeSettings(route, container))
}

export function changeAddress({ kind, end, address }: Of<'add address' | 'delete address'>, host: Host): void {
  using container = openPlace(host, end.place)
  const link = container.route.getLink(end.ifName)
  if (kind === 'delete address') container.route.deleteAddress(link, cidr(address))
  else container.route.addAddress(link, cidr(address))
}
