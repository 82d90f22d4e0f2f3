import { readFileSync } from 'node:fs'
import { hasProgram } from '../../nat/iptables.ts'
import type { Family } from '../../netlink-lib/ip.ts'
import { judgeRule, type KindOf, tokensOf } from './iptables-rule.ts'
import type { Place } from './places.ts'
import type { Rule } from './rules.ts'

/*
 * The tables of iptables in one place, by its own programs: those of the nft variant, and those of the older xtables,
 * which exist beside them and are passed as well. nf_tables knows nothing of the latter.
 */

export type Variant = 'nft' | 'legacy'
export const variants = ['nft', 'legacy'] as const

export interface IptablesTable {
  readonly variant: Variant
  readonly family: Family
  /** `filter`, `nat`, `mangle`, `raw`, `security`. */
  readonly name: string
  /** The program whose rules these are: `iptables`, or `iptables-legacy` where that is the other one. */
  readonly program: string
  readonly policies: ReadonlyMap<string, 'accept' | 'drop'>
  readonly chains: ReadonlyMap<string, readonly Rule[]>
}

const baseName = (family: Family) => (family === 4 ? 'iptables' : 'ip6tables')

/** The program of this variant: `iptables` itself when it is of that kind. Undefined when none is installed. */
function programOf(place: Place, variant: Variant, family: Family): string | undefined {
  const name = baseName(family)
  if (hasProgram(name) && defaultVariant(place, family) === variant) return name
  const explicit = `${name}-${variant}`
  return hasProgram(explicit) ? explicit : undefined
}

/** What `iptables` is here; undefined when it is not installed. */
export function defaultVariant(place: Place, family: Family): Variant | undefined {
  const name = baseName(family)
  if (!hasProgram(name)) return undefined
  return place.run(name, ['--version']).stdout.includes('nf_tables') ? 'nft' : 'legacy'
}

/** The tables that the older variant has in this place; to ask its programs for others would make them. */
export function legacyTableNames(place: Place, family: Family): string[] {
  const file = `/proc/thread-self/net/${family === 4 ? 'ip' : 'ip6'}_tables_names`
  return place.inside<string[]>(() => {
    try {
      return readFileSync(file, 'utf8').split('\n').filter(Boolean)
    } catch {
      return [] // this kernel has no such tables, or this user may not know
    }
  })
}

/** All tables of both variants, as far as there are programs that print them. */
export function readIptables(place: Place, family: Family): IptablesTable[] {
  return variants.flatMap((variant) => {
    if (variant === 'legacy' && legacyTableNames(place, family).length === 0) return []
    const program = programOf(place, variant, family)
    if (program === undefined) return []
    const { status, stdout } = place.run(`${program}-save`, [])
    return status === 0 ? parseSaved(stdout, { variant, family, program }, (address) => place.kindOf(address)) : []
  })
}

/** What iptables-save prints. */
export function parseSaved(
  text: string,
  of: Pick<IptablesTable, 'variant' | 'family' | 'program'>,
  kindOf: KindOf,
): IptablesTable[] {
  const tables: IptablesTable[] = []
  let chains = new Map<string, Rule[]>()
  let policies = new Map<string, 'accept' | 'drop'>()
  for (const line of text.split('\n')) {
    const [, name] = /^\*(\S+)/.exec(line) ?? []
    if (name !== undefined) {
      chains = new Map()
      policies = new Map()
      tables.push({ ...of, name, policies, chains })
    }
    const [, chain, policy] = /^:(\S+) (\S+)/.exec(line) ?? []
    if (chain !== undefined) {
      chains.set(chain, [])
      if (policy !== '-') policies.set(chain, policy === 'DROP' ? 'drop' : 'accept')
    }
    const [, within] = /^-A (\S+)/.exec(line) ?? []
    if (within !== undefined) chains.get(within)?.push(toRule(line, within, tables.at(-1)!, kindOf))
  }
  return tables
}

function toRule(text: string, chain: string, { program, name }: IptablesTable, kindOf: KindOf): Rule {
  const tokens = tokensOf(text)
  const table = name === 'filter' ? '' : `table ${name}, `
  return { text, place: `${program}, ${table}chain ${chain}`, judge: (moment) => judgeRule(tokens, moment, kindOf) }
}
