import { findStatus, isRegular, statusOf } from '../../netlink-lib/files.ts'
import { journal } from '../../netlink-lib/journal.ts'
import { runProgram } from '../../netlink-lib/program.ts'
import { CniError, codes } from './errors.ts'
import { type Command, type Environment, formatArgs } from './request.ts'

/** The first regular file called `type` in the directories of CNI_PATH. */
export function findExecutable(type: string, path: readonly string[]): string | undefined {
  for (const directory of path) {
    const file = `${directory}/${type}`
    const status = findStatus(file)
    if (status && isRegular(status)) return file
  }
  return undefined
}

/** The files that all our executables are; the plugins' names lead to the second. */
export const ownImages: readonly string[] = ['ns-net', 'ns-net-plugins']

/** True when the file is one of our executables, under whatever name: this one, or the other one beside it. */
export function isOurExecutable(file: string): boolean {
  const folder = process.execPath.slice(0, process.execPath.lastIndexOf('/'))
  const { device, inode } = statusOf(file)
  return ownImages.some((name) => {
    const own = findStatus(`${folder}/${name}`)
    return own?.device === device && own.inode === inode
  })
}

/**
 * Runs a foreign plugin with the identical environment and the whole configuration, as the spec's "Delegated plugins"
 * asks; its stderr is passed on, its error object is thrown. Returns what it printed on ADD.
 */
export function delegate(
  file: string,
  request: Environment & { readonly document: string },
  command: Command = request.command,
): Record<string, unknown> | undefined {
  const env = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: request.containerId,
    CNI_NETNS: request.netns,
    CNI_IFNAME: request.ifName,
    CNI_ARGS: formatArgs(request.args),
    CNI_PATH: request.path.join(':'),
  }
  const obeyed = journal?.before({ kind: 'program', command: [file], input: request.document, env })
  const { status, stdout, error, signal } = runProgram({ file, input: request.document, env, passStderr: true })
  // EPIPE: it did not want to read all; how it ended and what it printed says whether that was well.
  if (error && error.code !== 'EPIPE') throw new CniError(codes.delegate, `cannot run ${file}: ${error.code}`)
  const printed = stdout.trim()
  if (status !== 0) throw delegatedError(file, printed, signal ? `killed by ${signal}` : `exit code ${status}`)
  obeyed?.()
  return command === 'ADD' ? parse(file, printed) : undefined
}

function parse(file: string, printed: string): Record<string, unknown> {
  const json = parseObject(printed)
  if (json) return json
  throw new CniError(codes.delegate, `${file} did not print a CNI result`, printed.slice(0, 500))
}

function parseObject(printed: string): Record<string, unknown> | undefined {
  try {
    const json: unknown = JSON.parse(printed)
    return typeof json === 'object' && json !== null && !Array.isArray(json)
      ? (json as Record<string, unknown>)
      : undefined
  } catch {
    return undefined // not JSON
  }
}

/** Its error object if it printed a good one; else its own words are all there is to pass on. */
function delegatedError(file: string, printed: string, ending: string): CniError {
  const { code, msg, details } = parseObject(printed) ?? {}
  if (Number.isSafeInteger(code) && Number(code) > 0 && typeof msg === 'string')
    return new CniError(Number(code), msg, typeof details === 'string' ? details : `said by ${file}`)
  return new CniError(codes.delegate, `${file} failed with ${ending}`, printed.slice(0, 500) || undefined)
}
