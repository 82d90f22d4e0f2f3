/**
 * Why an address could not be had, kept or given back. The contract layer turns the kind into a CNI code.
 *
 * - exhausted: every address of a range set is taken
 * - duplicate: the attachment already holds an address of the set
 * - unavailable: a requested address can't be given
 * - busy: the store stayed locked
 * - missing: something that ADD made is gone
 * - io: the file system refused
 */
export type IpamErrorKind = 'exhausted' | 'duplicate' | 'unavailable' | 'busy' | 'missing' | 'io'

export class IpamError extends Error {
  override readonly name = 'IpamError'
  constructor(
    readonly kind: IpamErrorKind,
    message: string,
    /** What to do about it, or the list when there were several failures. */
    readonly details?: string,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

/** Symbolic errno of a failed system call: `ENOENT`. */
export function codeOf(error: unknown): string | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return typeof code === 'string' ? code : undefined
}

const remedies: Readonly<Record<string, string>> = {
  EACCES: 'run as the owner of the folder, or choose another ipam.dataDir',
  EPERM: 'run as the owner of the folder, or choose another ipam.dataDir',
  EROFS: 'the file system is read-only; choose another ipam.dataDir',
  ENOSPC: 'the file system is full; free some space',
  EDQUOT: 'the disk quota is used up; free some space',
  ENOTDIR: 'a file stands where a folder is expected',
}

/** A failed file operation as an {@link IpamError}; other errors come back as they are. */
export function ioError(attempt: string, error: unknown): unknown {
  const code = codeOf(error)
  if (code === undefined || error instanceof IpamError) return error
  const reason = (error as Error).message
  return new IpamError('io', `${attempt}: ${reason}`, remedies[code], { cause: error })
}
