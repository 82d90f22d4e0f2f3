/** enum NUD_*. */
export const neighbourStates: Readonly<Record<number, string>> = {
  1: 'INCOMPLETE',
  2: 'REACHABLE',
  4: 'STALE',
  8: 'DELAY',
  16: 'PROBE',
  32: 'FAILED',
  64: 'NOARP',
  128: 'PERMANENT',
}
export const failed = 32
/** REACHABLE and PERMANENT: used without asking again. */
export const trusted = 2 | 128

/** As ip(8) prints it. */
export const stateName = (state: number): string => neighbourStates[state] ?? String(state)
