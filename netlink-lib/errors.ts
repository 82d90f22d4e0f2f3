import { constants } from 'node:os'

/**
 * A system call or a netlink request that the kernel refused. The facts are fields; the sentence is derived.
 * Decide on `code`, never on the text.
 */
export class KernelError extends Error {
  override readonly name = 'KernelError'
  constructor(
    /** What was asked, ending so that the subject can follow: `add address 10.1.0.2/16 to`. */
    readonly operation: string,
    /** The object it was asked of: a link, a path, a namespace. */
    readonly subject: string,
    /** Positive errno(3). */
    readonly errno: number,
    /** The kernel's own explanation (NLMSGERR_ATTR_MSG), when it gave one. */
    readonly kernelMessage?: string,
    /** Offset in the request of the attribute the kernel points at (NLMSGERR_ATTR_OFFS). */
    readonly offset?: number,
  ) {
    super(`${operation} ${subject}: ${errnoText(errno)}${kernelMessage ? ` (kernel: ${kernelMessage})` : ''}`)
  }

  /** Symbolic errno: `EEXIST`. */
  get code(): string {
    return errnoCode(this.errno)
  }
}

/** True when `error` is the kernel saying one of these errno codes. */
export function isKernelError(error: unknown, ...codes: readonly string[]): error is KernelError {
  return error instanceof KernelError && codes.includes(error.code)
}

/** Symbolic name of a positive errno, `E<n>` when this platform has no name for it. */
export function errnoCode(errno: number): string {
  for (const [name, value] of Object.entries(constants.errno)) if (value === errno) return name
  return kernelOnly[errno] ?? `E${errno}`
}

/** errno values that the kernel returns although errno(3) has no name for them (include/linux/errno.h). */
const kernelOnly: Readonly<Record<number, string>> = { 85: 'ERESTART', 512: 'ERESTARTSYS', 524: 'ENOTSUPP' }

const sentences: Readonly<Record<string, string>> = {
  EPERM: 'operation not permitted',
  EACCES: 'permission denied',
  ENOENT: 'no such object',
  EEXIST: 'already exists',
  ENODEV: 'no such link',
  EBUSY: 'in use',
  EINVAL: 'refused as invalid',
  EOPNOTSUPP: 'not supported by this kernel',
  ENOTSUPP: 'not supported by this kernel',
  EPROTONOSUPPORT: 'protocol not supported by this kernel',
  EAFNOSUPPORT: 'address family not supported by this kernel',
  ENETUNREACH: 'network unreachable',
  EADDRNOTAVAIL: 'address not available',
  ENETDOWN: 'link is down',
  EROFS: 'read-only file system',
  ENOSPC: 'no space left',
  ENAMETOOLONG: 'name too long',
}

function errnoText(errno: number): string {
  const code = errnoCode(errno)
  const sentence = sentences[code]
  return sentence ? `${code}, ${sentence}` : code
}
