import fs from 'node:fs'
import { type ConfList, parseConfList } from './conflist.ts'
import type { Target } from './runtime.ts'

/**
 * The cache of results, where and as libcni keeps it, so that its tools find our attachments and we those of other
 * runtimes.
 */
const directory = '/var/lib/cni/results'

export interface CachedAttachment {
  readonly list: ConfList
  readonly target: Target
  readonly result: Readonly<Record<string, unknown>>
}

const fileOf = ({ name }: Pick<ConfList, 'name'>, { containerId, ifName }: Target) =>
  `${directory}/${name}-${containerId}-${ifName}`

export function writeCache({ list, target, result }: CachedAttachment): void {
  fs.mkdirSync(directory, { recursive: true, mode: 0o700 })
  const content = {
    kind: 'cniCacheV1',
    containerId: target.containerId,
    config: Buffer.from(JSON.stringify(list)).toString('base64'),
    ifName: target.ifName,
    networkName: list.name,
    netns: target.netns,
    cniArgs: [...(target.args ?? [['IgnoreUnknown', '1']])],
    capabilityArgs: target.capabilityArgs,
    result,
  }
  const file = fileOf(list, target)
  fs.writeFileSync(`${file}.new`, JSON.stringify(content), { mode: 0o600 })
  fs.renameSync(`${file}.new`, file)
}

export const readCache = (list: ConfList, target: Target): CachedAttachment | undefined => read(fileOf(list, target))

export const removeCache = (list: ConfList, target: Target): void => fs.rmSync(fileOf(list, target), { force: true })

/** The attachments of every runtime that uses the cache. */
export function listCache(): CachedAttachment[] {
  const files = fs.existsSync(directory) ? fs.readdirSync(directory).sort() : []
  return files.flatMap((file) => read(`${directory}/${file}`) ?? [])
}

/** No cache is as good as an unreadable one: every plugin's DEL works without. */
function read(file: string): CachedAttachment | undefined {
  try {
    const cached = JSON.parse(fs.readFileSync(file, 'utf8'))
    const list = parseConfList(JSON.parse(Buffer.from(cached.config, 'base64').toString('utf8')))
    const target: Target = {
      containerId: cached.containerId,
      netns: cached.netns ?? '',
      ifName: cached.ifName,
      args: new Map([...(cached.cniArgs ?? []), ['IgnoreUnknown', '1']]),
      capabilityArgs: cached.capabilityArgs,
    }
    return { list, target, result: cached.result ?? {} }
  } catch {
    return undefined
  }
}
