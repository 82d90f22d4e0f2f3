import fs from 'node:fs'
import { changeTable, hasProgram, listTable, type Table } from '../../nat/iptables.ts'
import type { Leftover } from './leftover.ts'

/** Chains of ours in a table, where the records of who uses them were lost together with all users. */

const tables: readonly { readonly table: Table; readonly records: string }[] = [
  { table: 'nat', records: '/run/ns-net/nat' },
  { table: 'filter', records: '/run/ns-net/firewall' },
]

const prefix = 'NS-NET-'

export function findIptablesLeftovers(): Leftover[] {
  return tables.flatMap(({ table, records }) => {
    if (fs.existsSync(records)) return []
    return ([4, 6] as const).flatMap((family) => {
      if (!hasProgram(family === 4 ? 'iptables-save' : 'ip6tables-save')) return []
      const lines = listTable(table, family)
      const chains = lines.flatMap((line) => (line.startsWith(`:${prefix}`) ? line.slice(1).split(' ')[0]! : []))
      if (chains.length === 0) return []
      const remove = () => changeTable(table, family, removal(lines, chains))
      return chains.map(
        (name): Leftover => ({
          kind: 'chain',
          name: `${family === 4 ? 'iptables' : 'ip6tables'} ${table} ${name}`,
          why: 'nobody is recorded as its user',
          remove,
        }),
      )
    })
  })
}

/** First the rules that lead to the chains from others, which stay. */
function removal(lines: readonly string[], chains: readonly string[]): string[] {
  const isOurs = (name: string | undefined) => name !== undefined && chains.includes(name)
  const jumps = lines.filter((line) => {
    const words = line.split(' ')
    return (
      words[0] === '-A' &&
      !isOurs(words[1]) &&
      isOurs(words[words.findIndex((word) => word === '-j' || word === '-g') + 1])
    )
  })
  return [
    ...jumps.map((line) => line.replace(/^-A /, '-D ')),
    ...chains.map((chain) => `-F ${chain}`),
    ...chains.map((chain) => `-X ${chain}`),
  ]
}
