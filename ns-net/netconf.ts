import fs from 'node:fs'
import path from 'node:path'
import { messageOf } from '../plugins/contract/errors.ts'
import { type ConfList, parseConfList } from './conflist.ts'
import { CliError } from './errors.ts'

/** Network configurations as libcni finds and reads them: a file, or a name among the files of a folder. */

export interface NetConf {
  readonly list: ConfList
  /** GC is not wanted for this network. */
  readonly disableGC: boolean
}

type Json = Record<string, unknown>

/** What is in a file, and the folder that may have more plugins of the network. */
interface Source {
  readonly file: string
  readonly json: Json
}

/** Reads a path, `-` for stdin, or the name of a network in NETCONFPATH. */
export function loadNetConf(which: string): NetConf {
  if (which === '-') return parse({ file: 'stdin', json: parseJson('stdin', fs.readFileSync(0, 'utf8')) })
  const isPath = which.includes('/') || /\.(conflist|conf|json)$/.test(which)
  return parse(withFolder(isPath ? readSource(which) : findSource(which)))
}

/** Lists first, then single plugins; a file before it that cannot be read ends the search. */
function findSource(name: string): Source {
  const folder = process.env.NETCONFPATH || '/etc/cni/net.d'
  for (const endings of [['.conflist'], ['.conf', '.json']]) {
    for (const file of filesIn(folder, endings)) {
      const source = readSource(file)
      if (source.json.name === name) return source
    }
  }
  throw new CliError(
    'notFound',
    `no network "${name}" in ${folder}`,
    'give its name, a path of its file, or - for stdin; NETCONFPATH names another folder',
  )
}

function filesIn(folder: string, endings: readonly string[]): string[] {
  const names = fs.existsSync(folder) ? fs.readdirSync(folder).sort() : []
  return names.filter((name) => endings.includes(path.extname(name))).map((name) => `${folder}/${name}`)
}

function readSource(file: string): Source {
  try {
    return { file, json: parseJson(file, fs.readFileSync(file, 'utf8')) }
  } catch (error) {
    if (error instanceof CliError) throw error
    throw new CliError('notFound', `cannot read ${file}: ${messageOf(error)}`)
  }
}

function parseJson(file: string, text: string): Json {
  try {
    const json: unknown = JSON.parse(text)
    if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json as Json
  } catch (error) {
    throw new CliError('usage', `${file}: ${messageOf(error)}`)
  }
  throw new CliError('usage', `${file}: expected a JSON object`)
}

/** libcni also takes the word. */
const isTrue = (value: unknown): boolean => value === true || (typeof value === 'string' && /^true$/i.test(value))

const isSingle = ({ plugins, loadOnlyInlinedPlugins, type }: Json): boolean =>
  plugins === undefined && loadOnlyInlinedPlugins === undefined && type !== undefined

/** The plugins in the folder that has the network's name, beside the file. */
function withFolder({ file, json }: Source): Source {
  const { name, plugins = [], loadOnlyInlinedPlugins } = json
  const isName = typeof name === 'string' && /^[a-zA-Z0-9][\w.-]*$/.test(name)
  if (isSingle(json) || isTrue(loadOnlyInlinedPlugins) || !isName || !Array.isArray(plugins)) return { file, json }
  const more = filesIn(`${path.dirname(file)}/${name}`, ['.conf']).map((each) => readSource(each).json)
  return more.length > 0 ? { file, json: { ...json, plugins: [...plugins, ...more] } } : { file, json }
}

function parse({ file, json }: Source): NetConf {
  const { name, cniVersion } = json
  try {
    const list = parseConfList(isSingle(json) ? { name, cniVersion, plugins: [json] } : json)
    return { list, disableGC: isTrue(json.disableGC) }
  } catch (error) {
    const { details } = error as { details?: string }
    throw new CliError('usage', `${file}: ${messageOf(error)}`, details, { cause: error })
  }
}
