import { spawnSync } from 'node:child_process'
import { CniError, codes, toCniError } from '../../plugins/contract/errors.ts'
import type { ConfList } from '../conflist.ts'
import { CliError } from '../errors.ts'
import { loadNetConf } from '../netconf.ts'
import { type Report, table } from '../output.ts'
import { requireExecutable, runtimePath } from '../runtime.ts'

/** The versions that each plugin of a list speaks, and those that give its addresses; a no when one cannot serve it. */
export function cniVersion(which: string): Report {
  const { list } = loadNetConf(which)
  const json = typesOf(list).map((plugin) => {
    const { file, versions } = probe(plugin)
    return { plugin, file, versions, supported: versions.includes(list.cniVersion) }
  })
  const rows = json.map(({ plugin, file, versions, supported }) => [
    plugin,
    supported ? 'yes' : 'no',
    versions.join(' '),
    file,
  ])
  const text = table(['PLUGIN', list.cniVersion, 'VERSIONS', 'FILE'], rows)
  return { json, text, negative: json.some(({ supported }) => !supported) }
}

const typesOf = ({ plugins }: ConfList): string[] => [
  ...new Set(
    plugins.flatMap(({ type, ipam }) => {
      const source = (ipam as { type?: unknown } | undefined)?.type
      return typeof source === 'string' && source !== '' ? [type, source] : [type]
    }),
  ),
]

/** Plugins from before the verb existed want the variables of an ADD, and then do not know it. */
function probe(type: string): { file: string; versions: string[] } {
  try {
    const file = requireExecutable(type, runtimePath())
    const dummy = { CNI_NETNS: 'dummy', CNI_IFNAME: 'dummy', CNI_CONTAINERID: 'dummy', CNI_PATH: 'dummy' }
    const { stdout, error } = spawnSync(file, {
      env: { ...process.env, ...dummy, CNI_COMMAND: 'VERSION' },
      input: JSON.stringify({ cniVersion: '1.1.0' }),
      stdio: ['pipe', 'pipe', 2],
      encoding: 'utf8',
    })
    if (stdout === null) throw new CniError(codes.delegate, `cannot run ${file}: ${error?.message}`)
    return { file, versions: versionsIn(file, stdout) }
  } catch (error) {
    const cni = toCniError(error)
    const message = `plugin "${type}" failed (version): ${cni.message} (CNI error ${cni.code})`
    throw new CliError('negative', message, cni.details, { cause: cni })
  }
}

function versionsIn(file: string, printed: string): string[] {
  const { cniVersion, supportedVersions, code, msg, details } = parse(file, printed)
  if (msg === 'unknown CNI_COMMAND: VERSION') return ['0.1.0']
  if (typeof msg === 'string') throw new CniError(Number(code), msg, typeof details === 'string' ? details : undefined)
  if (Array.isArray(supportedVersions)) return supportedVersions.map(String)
  if (typeof cniVersion === 'string') return [cniVersion]
  throw new CniError(codes.delegate, `${file} did not print its versions`, printed.slice(0, 500))
}

function parse(file: string, printed: string): Record<string, unknown> {
  try {
    return Object(JSON.parse(printed))
  } catch {
    throw new CniError(codes.delegate, `${file} did not print its versions`, printed.slice(0, 500) || undefined)
  }
}
