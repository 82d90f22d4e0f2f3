import type { Table } from '../../nat/iptables.ts'
import { withoutQuotes } from '../../nat/iptables.ts'

/*
 * Lines of iptables-restore: `:CHAIN - [0:0]` creates or empties a chain, the others are arguments of iptables(8). Told as
 * they were sent, since all of them or none are carried out.
 */

export interface Restoration {
  readonly table: Table
  readonly lines: readonly string[]
}

/** The lines between `*table` and `COMMIT`. */
export function readRestoration(input: string): Restoration {
  const [first = '', ...rest] = input.split('\n')
  return { table: first.slice(1) as Table, lines: rest.filter((line) => line !== '' && line !== 'COMMIT') }
}

/** Only questions: `-C`, which makes the whole transaction fail when a rule is not there. */
export const asksOnly = ({ lines }: Restoration): boolean => lines.every((line) => line.startsWith('-C '))

/** Without the counters of an iptables-save. */
const bare = (line: string): string => line.replace(/^\[\d+:\d+\] /, '')

/** The lines that take back others, by what iptables-save printed before. */
export function undoLines(lines: readonly string[], saved: readonly string[]): string[] {
  const chains = new Map<string, string[]>()
  for (const line of saved.map(bare)) {
    const [, chain] = /^:(\S+) /.exec(line) ?? []
    if (chain) chains.set(chain, [])
    const [, of, rule] = /^-A (\S+) (.*)$/.exec(line) ?? []
    if (of) chains.get(of)?.push(rule!)
  }
  const undo: string[][] = []
  for (const line of lines) undo.unshift(undoLine(line, chains))
  return withoutForgotten(undo.flat())
}

/** A chain that goes is emptied as a whole: iptables-nft forgets the deletion of a rule when it empties the chain as well. */
function withoutForgotten(lines: readonly string[]): string[] {
  const gone = lines.flatMap((line) => /^-X (.*)$/.exec(line)?.[1] ?? [])
  const isInside = (line: string) => gone.includes(/^-[DFX] (\S+)/.exec(line)?.[1] ?? '')
  return [
    ...lines.filter((line) => !isInside(line)),
    ...gone.map((chain) => `-F ${chain}`),
    ...gone.map((chain) => `-X ${chain}`),
  ]
}

/** Carries the line out on the picture of the table, and says what brings the picture back. */
function undoLine(line: string, chains: Map<string, string[]>): string[] {
  const [, declared] = /^:(\S+)/.exec(line) ?? []
  const [, verb, chain = '', rest = ''] = /^-(\w) (\S+) ?(.*)$/.exec(declared ? `-F ${declared}` : line) ?? []
  const rules = chains.get(chain)
  switch (verb) {
    case 'N':
      chains.set(chain, [])
      return [`-X ${chain}`]
    case 'X':
      chains.delete(chain)
      return [`-N ${chain}`]
    case 'F':
      chains.set(chain, [])
      return rules ? rules.map((rule) => `-A ${chain} ${rule}`) : [`-F ${chain}`, `-X ${chain}`]
    case 'A':
      rules?.push(rest)
      return [`-D ${chain} ${rest}`]
    case 'I': {
      const [, position = '1', rule = ''] = /^(?:(\d+) )?(.*)$/.exec(rest) ?? []
      rules?.splice(Number(position) - 1, 0, rule)
      return [`-D ${chain} ${rule}`]
    }
    case 'D': {
      const at = rules?.findIndex((rule) => withoutQuotes(rule) === withoutQuotes(rest)) ?? -1
      const [rule] = at < 0 ? [] : rules!.splice(at, 1)
      return rule === undefined ? [] : [`-I ${chain} ${at + 1} ${rule}`]
    }
    default:
      return [] // -C asks
  }
}
