import { Section } from '../../config/reader.ts'
import { allocate, check, collect, find, parseHostLocal, parseStore, release, status } from '../../ipam/host-local.ts'
import type { IpamResult } from '../../ipam/result.ts'
import { checkStatic, parseStatic, staticResult } from '../../ipam/static.ts'
import { delegate, findExecutable, isThisImage } from './delegation.ts'
import { CniError, codes } from './errors.ts'
import { type Request, requireKnownArgs, requirePrevResult } from './request.ts'
import { parseResult } from './result.ts'

/** The address source of a network, whoever provides it. */
export interface Ipam {
  readonly type: string
  add(): IpamResult
  /** The addresses this attachment holds; undefined where only the plugin itself knows. */
  held(): readonly string[] | undefined
  del(): void
  check(): void
  gc(): void
  status(): void
}

/**
 * The IPAM that the configuration names, undefined when it names none (`"ipam": {}` included). host-local and static
 * always run in this process, whatever executables of these names CNI_PATH leads to: the leases on disk are the same,
 * and a second process would cost as much again as the whole call.
 */
export function openIpam(request: Request): Ipam | undefined {
  const type = request.config.get('ipam')?.object().get('type')?.string() ?? ''
  if (type === '') return undefined
  if (type.includes('/'))
    request.config.get('ipam')!.object().fail('type', `expected the name of a plugin, got "${type}"`)
  const own = ownIpam[type]
  return own ? own(request) : foreignIpam(type, request)
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

/** The sections and arguments that IPAM configurations are read from. */
function inputOf(request: Request) {
  requireKnownArgs(request)
  return {
    network: request.network,
    ipam: request.config.require('ipam', 'an IPAM configuration').object(),
    args: request.config.get('args')?.object().get('cni')?.object(),
    runtimeConfig: request.config.get('runtimeConfig')?.object(),
    cniArgs: request.args,
    cniVersion: request.cniVersion,
  }
}

const ownIpam: Readonly<Record<string, (request: Request) => Ipam>> = {
  'host-local': (request) => {
    const input = inputOf(request)
    // A teardown needs to know where the leases are, and nothing else may stop it.
    const needsRanges = request.command === 'ADD' || request.command === 'STATUS' || request.command === 'CHECK'
    const conf = needsRanges ? parseHostLocal(input) : undefined
    const store = conf ?? parseStore(input)
    return {
      type: 'host-local',
      add: () => allocate(conf!, request),
      held: () => find(store, request),
      del: () => release(store, request),
      check: () => check(conf!, request, reportedAddresses(request)),
      gc: () => collect(store, request.validAttachments),
      status: () => status(conf!),
    }
  },
  static: (request) => {
    const conf = parseStatic(inputOf(request))
    return {
      type: 'static',
      add: () => staticResult(conf),
      held: () => undefined,
      del: () => {}, // nothing is kept
      check: () => checkStatic(conf, requirePrevResult(request).ips),
      gc: () => {},
      status: () => {},
    }
  },
}

/** Looked for at once, so that nothing is made for an ADD that cannot be served; a DEL first does what it can alone. */
function foreignIpam(type: string, request: Request): Ipam {
  const find = () => {
    const file = findExecutable(type, request.path)
    if (file && !isThisImage(file)) return file
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
  if (request.command !== 'DEL') find()
  return {
    type,
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
