import type { End, Place } from './places.ts'

/** What a diagnosis has found, step by step. docs/diagnosing.md has the schema. */

/** `unknown`: it may stop there; whether it does cannot be told without a real packet. */
export type State = 'ok' | 'blocked' | 'unknown'

export interface Hop {
  /** The packet itself, or the answer to it. */
  readonly direction: 'there' | 'back'
  readonly place: string
  readonly link?: string
  /** What was looked at: `route`, `neighbour`, `forwarding`, … */
  readonly check: string
  readonly finding: string
  readonly state: State
  /** Of a block: what becomes of the packet, as the verdict says it. */
  readonly verdict?: string
  /** A command that removes the block. */
  readonly fix?: string
  /** Another one. */
  readonly alternative?: string
  /** What to do where no command can be given. */
  readonly advice?: string
}

/** How the reader calls a place in a sentence. */
export const inWords = (place: Place): string => (place.isHost ? 'the host' : place.label)

export type Found = Omit<Hop, 'direction' | 'place' | 'link'>

/** The findings of one direction, in the order of the way. */
export class Findings {
  readonly hops: Hop[] = []
  direction: Hop['direction'] = 'there'

  /** What stops a packet everywhere stops its answer too: that is told once. */
  add(place: Place, link: End['link'] | undefined, found: Found): void {
    const isTold = (hop: Hop) => hop.place === place.label && hop.check === found.check && hop.finding === found.finding
    if (found.state === 'blocked' && this.hops.some(isTold)) return
    this.hops.push({ direction: this.direction, place: place.label, ...(link && { link: link.name }), ...found })
  }

  ok(place: Place, link: End['link'] | undefined, check: string, finding: string): void {
    this.add(place, link, { check, finding, state: 'ok' })
  }
}

/** Longer findings stand out to the right. */
const widest = 72

const marks: Readonly<Record<State, string>> = { ok: 'ok', blocked: 'BLOCKED', unknown: '?' }

/** Of the way back only what decides it: routes, and whatever is not as it should be. */
const isTold = ({ direction, check, state }: Hop): boolean =>
  direction === 'there' || state !== 'ok' || check === 'route' || check === 'nat'

/** One line for each hop, numbered. */
export function formatHops(hops: readonly Hop[]): string {
  const rows = hops.filter(isTold).map((hop) => {
    const place = hop.link && hop.check !== 'route' ? `${hop.place} ${hop.link}` : hop.place
    return { ...hop, place: hop.direction === 'back' ? `${place} (answer)` : place }
  })
  const width = (of: (row: (typeof rows)[number]) => string) => Math.max(0, ...rows.map((row) => of(row).length))
  const [places, checks, findings] = [
    width(({ place }) => place),
    width(({ check }) => check),
    Math.min(
      width(({ finding }) => finding),
      widest,
    ),
  ]
  return rows
    .map(({ place, check, finding, state }, i) => {
      const number = String(i + 1).padStart(String(rows.length).length + 1)
      return `${number} ${place.padEnd(places)}  ${check.padEnd(checks)}  ${finding.padEnd(findings)}  ${marks[state]}\n`
    })
    .join('')
}

/** Whoever is not root, or is it by sudo, needs that for the remedy too; several commands then need a shell around them. */
export function asRoot(command: string): string {
  if (process.geteuid?.() === 0 && process.env.SUDO_UID === undefined) return command
  return /[&|;<>]/.test(command) ? `sudo sh -c '${command.replaceAll("'", `'\\''`)}'` : `sudo ${command}`
}

const label = (name: string): string => `${name}:`.padEnd(9)

export function formatRemedies(hops: readonly Hop[]): string {
  const remedies = hops.flatMap(({ fix, alternative, advice }) => [
    ...(fix === undefined ? [] : [`${label('fix')}${asRoot(fix)}\n`]),
    ...(alternative === undefined ? [] : [`${label('or')}${asRoot(alternative)}\n`]),
    ...(advice === undefined ? [] : [`${label('advice')}${advice}\n`]),
  ])
  return [...new Set(remedies)].join('')
}
