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

/** Symbolic name of a positive errno, `E<n>` for one not in the table. */
export const errnoCode = (errno: number): string => errnoNames[errno] ?? `E${errno}`

/** include/uapi/asm-generic/errno*.h; 524 is internal to the kernel and comes through all the same. */
const errnoNames: Readonly<Record<number, string>> = {
  1: 'EPERM',
  2: 'ENOENT',
  3: 'ESRCH',
  4: 'EINTR',
  5: 'EIO',
  6: 'ENXIO',
  7: 'E2BIG',
  8: 'ENOEXEC',
  9: 'EBADF',
  11: 'EAGAIN',
  12: 'ENOMEM',
  13: 'EACCES',
  14: 'EFAULT',
  16: 'EBUSY',
  17: 'EEXIST',
  18: 'EXDEV',
  19: 'ENODEV',
  20: 'ENOTDIR',
  21: 'EISDIR',
  22: 'EINVAL',
  23: 'ENFILE',
  24: 'EMFILE',
  25: 'ENOTTY',
  26: 'ETXTBSY',
  27: 'EFBIG',
  28: 'ENOSPC',
  30: 'EROFS',
  32: 'EPIPE',
  33: 'EDOM',
  34: 'ERANGE',
  36: 'ENAMETOOLONG',
  38: 'ENOSYS',
  39: 'ENOTEMPTY',
  40: 'ELOOP',
  71: 'EPROTO',
  75: 'EOVERFLOW',
  85: 'ERESTART',
  88: 'ENOTSOCK',
  90: 'EMSGSIZE',
  92: 'ENOPROTOOPT',
  93: 'EPROTONOSUPPORT',
  95: 'EOPNOTSUPP',
  97: 'EAFNOSUPPORT',
  98: 'EADDRINUSE',
  99: 'EADDRNOTAVAIL',
  100: 'ENETDOWN',
  101: 'ENETUNREACH',
  104: 'ECONNRESET',
  105: 'ENOBUFS',
  107: 'ENOTCONN',
  110: 'ETIMEDOUT',
  111: 'ECONNREFUSED',
  113: 'EHOSTUNREACH',
  524: 'ENOTSUPP',
}

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
