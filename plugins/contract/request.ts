import type { Attachment, AttachmentId } from '../../config/attachment.ts'
import { Section, Value } from '../../config/reader.ts'
import type { Dns } from '../../ipam/result.ts'
import { CniError, codes, messageOf } from './errors.ts'
import { parseDns, parsePrevResult, type Result } from './result.ts'
import { gateVerb, gateVersion, type SpecVersion, specVersions } from './versions.ts'

export const commands = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION'] as const
export type Command = (typeof commands)[number]

/** The CNI environment (CNI spec, section 2, "Parameters"), checked. What a verb does not need may be empty. */
export interface Environment {
  readonly command: Command
  readonly containerId: string
  /** Path of the namespace as the runtime wrote it; empty when there is none (any more). */
  readonly netns: string
  readonly ifName: string
  /** CNI_ARGS. */
  readonly args: ReadonlyMap<string, string>
  /** CNI_PATH. */
  readonly path: readonly string[]
  /** CNI_NETNS_OVERRIDE: the plugin's own namespace is allowed as a target. */
  readonly netnsOverride: boolean
}

/** One call of a plugin: environment and configuration, both checked. */
export interface Request extends Environment, Attachment {
  readonly cniVersion: SpecVersion
  readonly config: Section
  /** The configuration as received, for delegated plugins. */
  readonly document: string
  readonly prevResult?: Result
  /** `cni.dev/valid-attachments`, on GC. */
  readonly validAttachments: readonly AttachmentId[]
}

type Variables = Readonly<Record<string, string | undefined>>

/** Which variable each verb needs. */
const required: readonly (readonly [name: string, ...commands: Command[]])[] = [
  ['CNI_CONTAINERID', 'ADD', 'CHECK', 'DEL'],
  ['CNI_NETNS', 'ADD', 'CHECK'],
  ['CNI_IFNAME', 'ADD', 'CHECK', 'DEL'],
  ['CNI_PATH', 'ADD', 'CHECK', 'DEL', 'GC', 'STATUS'],
]

/** Reads and checks the environment: a wrong value is reported at once, missing ones together. */
export function parseEnvironment(variables: Variables): Environment {
  const named = variables.CNI_COMMAND
  const command = commands.find((candidate) => candidate === named)
  if (!command)
    throw new CniError(codes.invalidEnvironment, `unknown CNI_COMMAND: ${named}`, `expected ${commands.join(', ')}`)
  const needed = required.filter(([, ...verbs]) => verbs.includes(command)).map(([name]) => name)
  if (needed.includes('CNI_CONTAINERID')) checkIdentifier('containerID', variables.CNI_CONTAINERID)
  if (needed.includes('CNI_IFNAME')) checkInterfaceName(variables.CNI_IFNAME)
  const missing = needed.filter((name) => !variables[name])
  if (missing.length > 0)
    throw new CniError(codes.invalidEnvironment, `required env variables [${missing.join(',')}] missing`)
  return {
    command,
    containerId: variables.CNI_CONTAINERID ?? '',
    netns: variables.CNI_NETNS ?? '',
    ifName: variables.CNI_IFNAME ?? '',
    args: parseArgs(variables.CNI_ARGS ?? ''),
    path: (variables.CNI_PATH ?? '').split(':').filter((directory) => directory !== ''),
    netnsOverride: ['1', 'true'].includes((variables.CNI_NETNS_OVERRIDE ?? '').toLowerCase()),
  }
}

/** Container ids and network names become file names: this is the rule that keeps them inside their directory. */
function checkIdentifier(what: string, value: string | undefined): void {
  if (value && !/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(value))
    throw new CniError(codes.invalidEnvironment, `invalid characters in ${what}`, value)
}

/** The kernel's rule for names of links (net/core/dev.c, dev_valid_name). */
export function checkInterfaceName(name: string | undefined): void {
  if (!name) return
  const problem =
    Buffer.byteLength(name) > 15
      ? 'interface name is too long'
      : name === '.' || name === '..'
        ? 'interface name is . or ..'
        : /[/:\s]/.test(name)
          ? 'interface name contains / or : or whitespace characters'
          : name.includes('%') // the kernel takes it for a pattern and chooses a name of its own
            ? 'interface name contains %'
            : undefined
  if (problem) throw new CniError(codes.invalidEnvironment, problem, `CNI_IFNAME is "${name}"; at most 15 bytes`)
}

/** A pair without exactly one `=` is kept whole as a name, for {@link requireKnownArgs} to complain of. */
function parseArgs(text: string): Map<string, string> {
  const pairs = text.split(';').filter((part) => part !== '')
  return new Map(
    pairs.map((pair): [string, string] => {
      const [name, value, ...more] = pair.split('=')
      return value === undefined || more.length > 0 ? [pair, malformed] : [name!, value]
    }),
  )
}

const malformed = '=' // no value can contain one

/** CNI_ARGS as they came. */
export const formatArgs = (args: ReadonlyMap<string, string>): string =>
  [...args].map(([name, value]) => (value === malformed ? name : `${name}=${value}`)).join(';')

/** Arguments our plugins and IPAM read; anything else needs IgnoreUnknown, as the CNI conventions say. */
const knownArgs = new Set(['IgnoreUnknown', 'IP', 'GATEWAY', 'MAC'])

/**
 * Refuses CNI_ARGS that nobody here reads. Called by what reads some, for an ADD only: others leave them alone, and
 * nothing may stop a DEL.
 */
export function requireKnownArgs({ args, command }: Pick<Request, 'args' | 'command'>): void {
  if (command !== 'ADD') return
  for (const [pair, value] of args)
    if (value === malformed)
      throw new CniError(codes.invalidEnvironment, `CNI_ARGS: invalid pair "${pair}"`, 'expected KEY=VALUE;KEY=VALUE')
  const ignore = (args.get('IgnoreUnknown') ?? '0').toLowerCase()
  if (!['0', '1', 'true', 'false'].includes(ignore))
    throw new CniError(
      codes.invalidEnvironment,
      `CNI_ARGS: IgnoreUnknown: expected 0, 1, true or false, got "${ignore}"`,
    )
  const unknown = [...args].filter(([name]) => !knownArgs.has(name)).map(([name, value]) => `${name}=${value}`)
  if (unknown.length > 0 && !['1', 'true'].includes(ignore))
    throw new CniError(
      codes.invalidEnvironment,
      `CNI_ARGS: unknown args ${JSON.stringify(unknown)}`,
      `known are ${[...knownArgs].join(', ')}; add IgnoreUnknown=1 to have others ignored`,
    )
}

/** Parses a configuration document (stdin) for a verb. */
export function parseRequest(
  environment: Environment,
  document: string,
  supported: readonly SpecVersion[] = specVersions,
): Request {
  const config = new Section(parseJson(document))
  const network = config.get('name')?.string() ?? ''
  if (network === '') throw new CniError(codes.invalidConfig, 'missing network name', 'the configuration has no "name"')
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(network))
    throw new CniError(codes.invalidConfig, 'invalid characters found in network name', network)
  const cniVersion = gateVersion(config.get('cniVersion')?.string(), supported)
  gateVerb(environment.command, cniVersion)
  return {
    ...environment,
    network,
    cniVersion,
    config,
    document,
    prevResult: prevResultOf(environment.command, config, cniVersion),
    validAttachments: environment.command === 'GC' ? parseValidAttachments(config) : [],
  }
}

function parseJson(document: string): Record<string, unknown> {
  let json: unknown
  try {
    json = JSON.parse(document)
  } catch (error) {
    throw new CniError(codes.decode, `cannot decode the configuration on stdin: ${messageOf(error)}`)
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new CniError(codes.decode, 'cannot decode the configuration on stdin: expected a JSON object')
  return json as Record<string, unknown>
}

/** On DEL a prevResult that cannot be read is as good as none: nothing may stop a teardown. */
function prevResultOf(command: Command, config: Section, version: SpecVersion): Result | undefined {
  const value = config.get('prevResult')
  if (!value) return undefined
  try {
    value.object()
    return parsePrevResult(value.json, version)
  } catch (error) {
    if (command === 'DEL') return undefined
    throw error
  }
}

/** The result of the ADD, which CHECK compares with and chained plugins build on. */
export function requirePrevResult({ prevResult, command }: Request): Result {
  if (prevResult) return prevResult
  throw new CniError(
    codes.invalidConfig,
    'Required prevResult missing',
    `${command} needs the result of an earlier ADD`,
  )
}

/** The configured DNS: the `dns` capability of the runtime (CNI conventions), else the configuration's own `dns`. */
export function requestedDns({ config }: Request): Dns | undefined {
  const capability = config.get('runtimeConfig')?.object().get('dns')?.object()
  if (!capability) return parseDns(config.get('dns')?.object())
  const strings = (key: string) => capability.get(key)?.list((value) => value.string())
  return { nameservers: strings('servers'), search: strings('searches'), options: strings('options') }
}

/** The MAC address asked for. CNI_ARGS, then args.cni, then the mac capability: the later wins. */
export function requestedMac({ config, args }: Request): string | undefined {
  const channels = [config.get('runtimeConfig')?.object(), config.get('args')?.object().get('cni')?.object()]
  for (const channel of channels) {
    const mac = channel?.get('mac')
    if (mac && mac.json !== '') return mac.mac()
  }
  const mac = args.get('MAC')
  return mac ? new Value(mac, 'CNI_ARGS.MAC').mac() : undefined
}

/** libcni also writes the key's older spelling (CNI spec 1.1.0, GC). */
function parseValidAttachments(config: Section): AttachmentId[] {
  const key = config.get('cni.dev/valid-attachments') ? 'cni.dev/valid-attachments' : 'cni.dev/attachments'
  return config.list(key, (value) => {
    const attachment = value.object()
    return {
      containerId: attachment.require('containerID', 'a container id').string(),
      ifName: attachment.require('ifname', 'an interface name').string(),
    }
  })
}
