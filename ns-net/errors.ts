import { type CniError, codes, toCniError } from '../plugins/contract/errors.ts'

/** Exit codes of ns-net; docs/ns-net.md has the table. */
export const exitCodes = {
  ok: 0,
  negative: 1,
  usage: 2,
  notFound: 3,
  conflict: 4,
  permission: 5,
  unsupported: 6,
  timeout: 7,
  failed: 8,
  exec: 125,
  notExecutable: 126,
  noCommand: 127,
} as const
export type ExitKind = keyof typeof exitCodes

/** A failure told to a person: one sentence, a hint, an exit code. */
export class CliError extends Error {
  override readonly name = 'CliError'
  constructor(
    readonly kind: ExitKind,
    message: string,
    readonly hint?: string,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

const kinds: Readonly<Record<number, ExitKind>> = {
  [codes.invalidConfig]: 'usage',
  [codes.permission]: 'permission',
  [codes.conflict]: 'conflict',
  [codes.tryAgain]: 'timeout',
  [codes.unavailable]: 'unsupported',
  [codes.checkFailed]: 'negative',
}

/** The error to tell for anything thrown while doing `what`. */
export function toCliError(error: unknown, what?: string): CliError {
  if (error instanceof CliError) return error
  const cni: CniError = toCniError(error)
  const kind = kinds[cni.code] ?? (cni.message.includes('EOPNOTSUPP') ? 'unsupported' : 'failed')
  const message = what ? `${what}: ${cni.message}` : cni.message
  return new CliError(kind, message, cni.details, { cause: error })
}
