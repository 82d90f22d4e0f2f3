import fs from 'node:fs'
import { CliError } from '../errors.ts'
import { type Report, table } from '../output.ts'
import { type NamespaceKind, namespaceKinds, readNamespaces } from '../processes.ts'
import { parseTarget, type Target } from '../targets.ts'

/** Compares the namespaces of two targets, kind by kind. Works without root for what this user may see. */
export function same(a: string, b: string): Report {
  const [one, other] = [parseTarget(a), parseTarget(b)].map(namespacesOf)
  const rows = namespaceKinds
    .map((kind) => ({ kind, a: one![kind], b: other![kind] }))
    .filter((row) => row.a !== undefined || row.b !== undefined)
    .map((row) => ({ ...row, relation: relationOf(row.a, row.b) }))
  if (rows.length === 0)
    throw new CliError('permission', `the namespaces of ${a} and ${b} are not visible to you`, 'try it with sudo')
  return {
    json: { a, b, namespaces: rows },
    text: table(
      ['KIND', a, b, ''],
      rows.map((row) => [row.kind, shown(row.a), shown(row.b), row.relation]),
    ),
    negative: rows.some(({ relation }) => relation !== 'shared'),
  }
}

const shown = (inode: number | undefined) => (inode === undefined ? '?' : String(inode))

const relationOf = (a: number | undefined, b: number | undefined) =>
  a === undefined || b === undefined ? 'not visible' : a === b ? 'shared' : 'separate'

/** A named namespace is a network namespace only; a process has one of each kind. */
function namespacesOf(target: Target): Partial<Record<NamespaceKind, number>> {
  if (target.kind === 'process') return readNamespaces(target.pid)
  if (target.kind === 'host') return readNamespaces(1)
  return { net: fs.statSync(target.netns).ino }
}
