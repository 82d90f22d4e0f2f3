import { CliError } from '../errors.ts'
import { inodeOf, listLabs, listNetnsNames, processesByNetns } from '../labs.ts'
import { type Keeper, surveyNamespaces } from '../namespaces.ts'
import { type Report, table } from '../output.ts'
import { showPortMapping } from '../port-mappings.ts'
import { hasLabels } from './del.ts'
import { kindOf, labsByInode } from './ps.ts'

export interface LsOptions {
  /** `KEY=VALUE`: only labs with all of these labels. */
  readonly selector?: readonly string[]
  /** Every namespace of the machine instead, of all kinds, with what keeps it alive. */
  readonly all?: boolean
  /** With all: only of this kind. */
  readonly type?: string
}

/** Labs and other named namespaces, or every namespace of the machine. Works without root. */
export function ls({ selector, all, type }: LsOptions = {}): Report {
  if (all && selector)
    throw new CliError(
      'usage',
      '--all and --selector exclude each other',
      'only labs have labels: ns-net ls -l KEY=VALUE',
    )
  if (type !== undefined && !all)
    throw new CliError(
      'usage',
      '--type needs --all',
      `ns-net ls --all --type ${type}; without --all all are of kind net`,
    )
  return all ? lsNamespaces(type) : lsLabs(selector)
}

/** One row for every named namespace: ours, and those that somebody else pinned. */
function lsLabs(selector: readonly string[] | undefined): Report {
  const all = listLabs()
  const labs = selector ? all.filter((lab) => hasLabels(lab, selector)) : all
  const processes = processesByNetns()
  const count = (name: string) => processes.get(inodeOf(name) ?? -1)?.length ?? 0
  const managed = new Set(all.map(({ name }) => name))
  const pinned = new Set(listNetnsNames())
  const rows = [
    ...labs.map(({ name, created, attachments, labels }) => ({
      name,
      state: pinned.has(name) ? 'ok' : 'namespace gone',
      created,
      networks: attachments.map(({ network, ifName, addresses, ports = [] }) => ({
        network,
        ifName,
        addresses,
        ports,
      })),
      ...(labels && { labels }),
      processes: count(name),
    })),
    ...[...(selector ? [] : pinned)]
      .filter((name) => !managed.has(name))
      .map((name) => ({ name, state: 'unmanaged', created: undefined, networks: [], processes: count(name) })),
  ].sort((a, b) => (a.name < b.name ? -1 : 1))
  return {
    json: rows,
    text: table(
      ['NAME', 'NET', 'ADDRESS', 'IF', 'PORTS', 'PROCS', 'STATE'],
      rows.map(({ name, networks, processes: inside, state }) => [
        name,
        networks.map(({ network }) => network).join(','),
        networks.flatMap(({ addresses }) => addresses).join(','),
        networks.map(({ ifName }) => ifName).join(','),
        networks.flatMap(({ ports }) => ports.map(showPortMapping)).join(','),
        String(inside),
        state,
      ]),
    ),
  }
}

function lsNamespaces(type: string | undefined): Report {
  const kind = kindOf(type)
  const names = labsByInode()
  const { namespaces, hidden } = surveyNamespaces()
  const rows = namespaces
    .filter((namespace) => kind === undefined || namespace.kind === kind)
    .map(({ keptBy, ...rest }) => ({
      ...rest,
      name: rest.kind === 'net' ? names.get(rest.inode) : undefined,
      keptBy,
    }))
  const unseen =
    hidden > 0 ? `\n${hidden} processes belong to others and could not be looked into: try it with sudo\n` : ''
  return {
    json: { namespaces: rows, hidden },
    text: `${table(
      ['KIND', 'INODE', 'PROCS', 'NAME', 'KEPT BY'],
      rows.map((row) => [
        row.kind,
        String(row.inode),
        String(row.processes),
        row.name ?? '',
        row.keptBy.length > shownKeepers + 1
          ? `${row.keptBy.slice(0, shownKeepers).map(showKeeper).join(', ')} and ${row.keptBy.length - shownKeepers} more`
          : row.keptBy.map(showKeeper).join(', '),
      ]),
    )}${unseen}`,
  }
}

/** In one line of the table; JSON has all. */
const shownKeepers = 4

function showKeeper(keeper: Keeper): string {
  switch (keeper.by) {
    case 'processes':
      return `processes (${keeper.count}, first ${showProcess(keeper.first)})`
    case 'children to come':
      return `children to come of ${showProcess(keeper)}`
    case 'bind mount':
      return `bind mount ${keeper.path}${keeper.pid === undefined ? '' : ` as ${keeper.pid} sees it`}`
    case 'open file':
      return `open file ${showProcess(keeper)} fd ${keeper.fd}`
    case 'namespaces below':
      return `namespaces below (${keeper.count}, first ${keeper.first.kind} ${keeper.first.inode})`
  }
}

const showProcess = ({ pid, command }: { pid: number; command: string }): string =>
  `${pid} ${command.slice(0, 40).trim()}`
