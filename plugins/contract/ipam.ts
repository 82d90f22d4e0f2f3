import { Section } from '../../config/reader.ts'
import {
  allocate,
  check,
  collect,
  find,
  type IpamInput,
  parseHostLocal,
  parseStore,
  release,
  type StoreConf,
  status,
} from '../../ipam/host-local.ts'
import type { IpamResult } from '../../ipam/result.ts'
import { checkStatic, parseStatic, staticResult } from '../../ipam/static.ts'
import { delegate, findExecutable, isOurExecutable } from './delegation.ts'
import { CniError, codes } from './errors.ts'
import { type Request, requireKnownArgs, requirePrevResult } from './request.ts'
import { parseResult } from './result.ts'

/** The address source of a network, whoever provides it. */
export interface Ipam {
  readonly type: string
  /** An address may be one that somebody else had a moment ago. Of its own accord host-local takes that one last. */
  readonly repeatsSoon: boolean
  add(): IpamResult
  /** The addresses this attachment holds; undefined where only the plugin itself knows. */
  held(): readonly string[] | undefined
  del(): void
  check(): void
  gc(): void
  status(): void
}

/** DEL and GC: what ADD would refuse in the configuration must not keep what an earlier ADD made. */
const isTeardown = ({ command }: Request): boolean => command === 'DEL' || command === 'GC'

/**
 * The IPAM that the configuration names, undefined when it names none (`"ipam": {}` included). host-local and static
 * always run in this process, whatever executables of these names CNI_PATH leads to: the leases on disk are the same,
 * and a second process would cost as much again as the whole call.
 */
export function openIpam(request: Request): Ipam | undefined {
  const type = typeOf(request)
  if (type === '') return undefined
  return Object.hasOwn(ownIpam, type) ? ownIpam[type]!(request) : foreignIpam(type, request)
}

/** A section that cannot be read names none: a teardown does what it can without, as where there is no section. */
function typeOf(request: Request): string {
  try {
    return request.config.get('ipam')?.object().get('type')?.string() ?? ''
  } catch (error) {
    if (isTeardown(request)) return ''
    throw error
  }
}

/** Our own IPAM of that type, whatever CNI_PATH holds: what the executables host-local and static are. */
export function openOwnIpam(type: 'host-local' | 'static', request: Request): Ipam {
  return ownIpam[type]!(request)
}

/** An IPAM that must be there and must give at least one address. */
export function requireAddresses(result: IpamResult): IpamResult {
  if (result.ips.length > 0) return result
  throw new CniError(
    codes.invalidConfig,
    'IPAM plugin returned missing IP config',
    'the ipam section yields no address',
  )
}

/** Addresses that an earlier result of this attachment names. */
function reportedAddresses({ prevResult, ifName }: Request): string[] {
  if (!prevResult) return []
  const ours = prevResult.ips.filter(
    (ip) => ip.interface === undefined || prevResult.interfaces[ip.interface]?.name === ifName,
  )
  return ours.map(({ address }) => address.address)
}

/** Which addresses a teardown has to do with: from the lease, else from the result; undefined when neither tells. */
export function addressesToRelease(ipam: Ipam | undefined, request: Request): readonly string[] | undefined {
  return ipam?.held() ?? (request.prevResult && reportedAddresses(request))
}

const sectionOf = ({ config }: Request): Section => config.require('ipam', 'an IPAM configuration').object()

/** The sections and arguments that IPAM configurations are read from. */
function inputOf(request: Request): IpamInput {
  requireKnownArgs(request)
  return {
    network: request.network,
    ipam: sectionOf(request),
    args: request.config.get('args')?.object().get('cni')?.object(),
    runtimeConfig: request.config.get('runtimeConfig')?.object(),
    cniArgs: request.args,
    cniVersion: request.cniVersion,
  }
}

const ownIpam: Readonly<Record<string, (request: Request) => Ipam>> = {
  'host-local': (request) => {
    const conf = isTeardown(request) ? undefined : parseHostLocal(inputOf(request))
    // A teardown needs to know where the leases are, and asks when their turn comes, after links and rules.
    const store = () => conf ?? parseStore({ network: request.network, ipam: sectionOf(request) })
    return {
      type: 'host-local',
      repeatsSoon: (conf?.requested.length ?? 0) > 0,
      add: () => allocate(conf!, request),
      held: () => heldIn(store, request),
      del: () => release(store(), request),
      check: () => check(conf!, request, reportedAddresses(request)),
      gc: () => collect(store(), request.validAttachments),
      status: () => status(conf!),
    }
  },
  static: (request) => {
    const conf = isTeardown(request) ? undefined : parseStatic(inputOf(request))
    return {
      type: 'static',
      repeatsSoon: true,
      add: () => staticResult(conf!),
      held: () => undefined,
      del: () => {}, // nothing is kept
      check: () => checkStatic(conf!, requirePrevResult(request).ips),
      gc: () => {},
      status: () => {},
    }
  },
}

function heldIn(store: () => StoreConf, request: Request): readonly string[] | undefined {
  try {
    return find(store(), request)
  } catch {
    return undefined // asked by a teardown, which comes to the leases themselves and says then what is wrong with them
  }
}

/** Looked for at once, so that nothing is made for an ADD that cannot be served; a teardown first does what it can alone. */
function foreignIpam(type: string, request: Request): Ipam {
  const find = () => {
    if (type.includes('/')) sectionOf(request).fail('type', `expected the name of a plugin, got "${type}"`)
    const file = findExecutable(type, request.path)
    if (file && !isOurExecutable(file)) return file
    if (file)
      throw new CniError(
        codes.invalidConfig,
        `"${type}" is no IPAM plugin`,
        `${file} would be started in place of an IPAM plugin; ipam.type names host-local, static or another IPAM plugin`,
      )
    const path = request.path.join(':')
    throw new CniError(
      codes.invalidConfig,
      `failed to find plugin "${type}" in path [${path}]`,
      'named by ipam.type; install it, or correct CNI_PATH',
    )
  }
  if (!isTeardown(request)) find()
  return {
    type,
    repeatsSoon: true,
    add: () => addByDelegate(find(), request),
    held: () => undefined,
    del: () => void delegate(find(), request, 'DEL'),
    check: () => void delegate(find(), request, 'CHECK'),
    gc: () => void delegate(find(), request, 'GC'),
    status: () => void delegate(find(), request, 'STATUS'),
  }
}

/** The spec asks for a DEL after a delegate's failed ADD; what that DEL says is of no use to anybody. */
function addByDelegate(file: string, request: Request): IpamResult {
  try {
    return parseResult(new Section(delegate(file, request, 'ADD')!), request.cniVersion)
  } catch (error) {
    try {
      delegate(file, request, 'DEL')
    } catch {
      // the error of the ADD is the one that matters
    }
    throw error
  }
}
