import { CliError } from '../errors.ts'
import { type Report, table } from '../output.ts'
import { containerIdOf, readProcess } from '../processes.ts'
import { labsByInode } from './ps.ts'

/** Which lab or container a process belongs to. */
export function whose(pid: number): Report {
  const found = readProcess(pid)
  if (!found) throw new CliError('notFound', `no process ${pid}`)
  const { net } = found.namespaces
  const facts = {
    pid,
    nsPid: found.nsPids.at(-1),
    command: found.command,
    lab: net === undefined ? undefined : labsByInode().get(net),
    container: containerIdOf(found),
    cgroup: found.cgroups.find((path) => path !== '/') ?? '/',
    namespaces: found.namespaces,
  }
  return {
    json: facts,
    text: table(
      ['PID', 'NSPID', 'LAB', 'CONTAINER', 'NET', 'COMMAND'],
      [
        [
          String(pid),
          String(facts.nsPid),
          facts.lab ?? '',
          facts.container?.slice(0, 12) ?? '',
          net === undefined ? '?' : String(net),
          facts.command.slice(0, 200),
        ],
      ],
    ),
  }
}
