/** Something with our mark that nobody needs any more. */
export interface Leftover {
  readonly kind: 'lab' | 'link' | 'bridge' | 'rules' | 'chain' | 'lease' | 'result' | 'settings' | 'file' | 'cgroup'
  readonly name: string
  readonly why: string
  /** Absent is done. Several may share one. */
  remove(): void
}
