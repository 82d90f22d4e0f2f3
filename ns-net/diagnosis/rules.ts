import type { Moment } from './packet.ts'

/*
 * Rules, whatever wrote them: nft or either iptables. A rule that asks for something that cannot be known beforehand
 * matches `maybe`, and what it would do is a doubt about the outcome.
 */

export type Match = 'yes' | 'no' | 'maybe'

/** What address translation does. An address that is undefined was not understood. */
export interface Translation {
  readonly kind: 'masquerade' | 'source' | 'destination' | 'redirect'
  readonly address?: string
  readonly port?: number
}

/** What ends a base chain. */
export type Final =
  | { readonly kind: 'accept' | 'drop' | 'reject' }
  | { readonly kind: 'translate'; readonly translation: Translation }

export type Action =
  | Final
  | { readonly kind: 'return' }
  | { readonly kind: 'continue' }
  | { readonly kind: 'jump'; readonly chain: string }
  | { readonly kind: 'goto'; readonly chain: string }

export interface Rule {
  /** As its tool prints it. */
  readonly text: string
  /** The chain it stands in, for the reader: `chain forward of table inet t`. */
  readonly place: string
  /** As `nft -a` prints it. */
  readonly handle?: bigint
  judge(moment: Moment): { readonly match: Match; readonly action: Action }
}

/** What a base chain does to a packet. */
export interface Outcome {
  readonly action: Final
  /** The rule that decided; undefined when it was the policy. */
  readonly rule?: Rule
  /** Rules that may have decided otherwise, before it came to that. */
  readonly doubts: readonly { readonly rule: Rule; readonly action: Final }[]
}

const deepest = 32

/** Takes a packet through a base chain and what it leads to. */
export function passChain(
  start: string,
  policy: 'accept' | 'drop',
  rulesOf: (chain: string) => readonly Rule[],
  moment: Moment,
): Outcome {
  const doubts: { rule: Rule; action: Final }[] = []
  const walk = (chain: string, certainly: boolean, depth: number): Omit<Outcome, 'doubts'> | undefined => {
    let certain = certainly
    for (const rule of depth > deepest ? [] : rulesOf(chain)) {
      const { match, action } = rule.judge(moment)
      if (match === 'no' || action.kind === 'continue') continue
      const sure = certain && match === 'yes'
      if (action.kind === 'return') {
        if (match === 'yes') return undefined
        certain = false
      } else if (action.kind === 'jump' || action.kind === 'goto') {
        const decided = walk(action.chain, sure, depth + 1)
        if (decided || (action.kind === 'goto' && sure)) return decided
      } else if (sure) return { action, rule }
      else doubts.push({ rule, action })
    }
    return undefined
  }
  return { ...(walk(start, true, 0) ?? { action: { kind: policy } }), doubts }
}

export const stops = ({ kind }: Action): boolean => kind === 'drop' || kind === 'reject'

/** `no`: it stops here; `maybe`: rules that cannot be judged decide. */
export function passes({ action, doubts }: Outcome): Match {
  const differs = doubts.some((doubt) => stops(doubt.action) !== stops(action))
  return differs ? 'maybe' : stops(action) ? 'no' : 'yes'
}
