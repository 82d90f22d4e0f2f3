import { ConfigError } from '../../config/reader.ts'
import { KernelError } from '../../netlink-lib/errors.ts'
import { NotANetns } from '../../netlink-lib/netns.ts'

/**
 * Error codes of the CNI spec (section 5, "Error") and, from 100, ours. docs/errors.md explains each.
 */
export const codes = {
  incompatibleVersion: 1,
  unsupportedField: 2,
  unknownContainer: 3,
  invalidEnvironment: 4,
  io: 5,
  decode: 6,
  invalidConfig: 7,
  invalidNetns: 8,
  tryAgain: 11,
  unavailable: 50,
  unavailableLimited: 51,
  kernel: 100,
  permission: 101,
  exhausted: 102,
  conflict: 103,
  checkFailed: 104,
  delegate: 105,
  internal: 999,
} as const
export type Code = (typeof codes)[keyof typeof codes]

/** An error as a runtime sees it: a CNI error object on stdout. */
export class CniError extends Error {
  override readonly name = 'CniError'
  constructor(
    readonly code: number,
    message: string,
    /** The cause in more words and what to do about it. */
    readonly details?: string,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

/** Several failures of a teardown that went on past each of them. */
export class TeardownError extends AggregateError {
  override readonly name = 'TeardownError'
  constructor(errors: readonly unknown[]) {
    super(errors, errors.map(messageOf).join('; '))
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** The CNI error for anything thrown. Only this function knows which code an error of the lower layers has. */
export function toCniError(error: unknown): CniError {
  if (error instanceof CniError) return error
  if (error instanceof AggregateError && error.errors.length > 0) {
    const first = toCniError(error.errors[0])
    return new CniError(first.code, error.message, first.details, { cause: error })
  }
  if (error instanceof ConfigError) return new CniError(codes.invalidConfig, `invalid configuration: ${error.message}`)
  if (error instanceof NotANetns)
    return new CniError(codes.invalidNetns, error.message, 'CNI_NETNS must be the path of a network namespace')
  if (error instanceof KernelError) return kernelError(error)
  const code = kindCodes[(error as { kind?: string } | undefined)?.kind ?? '']
  if (code && error instanceof Error) return new CniError(code, error.message, (error as { details?: string }).details)
  const stack = error instanceof Error ? error.stack : undefined
  return new CniError(codes.internal, messageOf(error), stack, { cause: error })
}

/** Kinds of ipam/errors.ts and nat/errors.ts. */
const kindCodes: Readonly<Record<string, Code>> = {
  exhausted: codes.exhausted,
  duplicate: codes.conflict,
  unavailable: codes.conflict,
  busy: codes.tryAgain,
  missing: codes.checkFailed,
  unusable: codes.unavailable,
  invalid: codes.invalidConfig,
  refused: codes.kernel,
  io: codes.io,
}

function kernelError(error: KernelError): CniError {
  const is = (...names: string[]) => names.includes(error.code)
  if (is('EPERM', 'EACCES'))
    return new CniError(codes.permission, error.message, 'needs CAP_NET_ADMIN and CAP_SYS_ADMIN: run as root')
  if (is('EAGAIN', 'EBUSY', 'ENOBUFS'))
    return new CniError(codes.tryAgain, error.message, 'the same call may succeed later')
  if (error.operation === 'open network namespace')
    return new CniError(codes.unknownContainer, error.message, 'the container is gone, or CNI_NETNS is wrong')
  return new CniError(codes.kernel, error.message)
}
