/** What doctor has looked at. docs/diagnosing.md has the schema. */

/** `unknown`: this user may not look, or nothing here can tell. */
export type CheckState = 'ok' | 'warn' | 'fail' | 'unknown'

export interface Check {
  /** What was looked at; several findings may share a name. */
  readonly check: string
  readonly state: CheckState
  readonly finding: string
  /** A command that mends it. */
  readonly fix?: string
  /** What to do where no command can be given. */
  readonly advice?: string
}

export const ok = (check: string, finding: string): Check => ({ check, state: 'ok', finding })

export const unknown = (check: string, finding: string): Check => ({ check, state: 'unknown', finding })

/** Runs a check that may meet what this user may not see. */
export function attempt(check: string, look: () => readonly Check[]): readonly Check[] {
  try {
    return look()
  } catch (error) {
    return [unknown(check, (error as Error).message)]
  }
}

export const isRoot = (): boolean => process.geteuid?.() === 0
