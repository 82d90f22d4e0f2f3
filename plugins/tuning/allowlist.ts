import { findFile } from '../../netlink-lib/files.ts'
import { CniError, codes, messageOf } from '../contract/errors.ts'
import type { Sysctl } from './config.ts'

/** Where an administrator says which sysctls a configuration may set: regular expressions, one per line. */
export const allowlistFile = '/etc/cni/tuning/allowlist.conf'

/** Throws when the file is there and no line of it matches the key, which is compared as the configuration has it. */
export function refuseForbidden(sysctls: readonly Sysctl[], file = allowlistFile): void {
  const allowed = sysctls.length > 0 ? readAllowlist(file) : undefined
  const forbidden = sysctls.find(({ key }) => allowed?.every((expression) => !expression.test(key)))
  if (!forbidden) return
  throw new CniError(
    codes.invalidConfig,
    `sysctl "${forbidden.key}" is not allowed on this host`,
    `no line of ${file} matches it; drop it from the configuration, or add a line there`,
  )
}

/** Undefined when there is no file: then everything is allowed. */
function readAllowlist(file: string): RegExp[] | undefined {
  let text: string | undefined
  try {
    text = findFile(file)
  } catch (error) {
    throw new CniError(codes.io, `cannot read ${file}: ${messageOf(error)}`, 'it says which sysctls may be set')
  }
  const lines = text?.split('\n').map((line, i) => ({ line: line.trim(), number: i + 1 }))
  return lines?.filter(({ line }) => line !== '').map(({ line, number }) => expressionIn(line, `${file}:${number}`))
}

function expressionIn(line: string, place: string): RegExp {
  try {
    return new RegExp(line)
  } catch (error) {
    throw new CniError(codes.invalidConfig, `${place}: ${messageOf(error)}`, 'expected one regular expression per line')
  }
}
