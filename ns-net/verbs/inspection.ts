import type { Command } from 'commander'
import { positiveInteger, print, verb } from './verb.ts'

const target = 'lab, pid:N, podman:NAME, docker:NAME, self, path:FILE or host'

/** Verbs that only look. They read /proc, work without root and mark what they cannot see. */
export function inspectionVerbs(program: Command): void {
  verb(program, 'See', 'ps', 'processes outside your namespaces, with their numbers inside', [
    'ns-net ps',
    'ns-net ps web',
    'ns-net ps --type pid',
  ])
    .argument('[lab]', `only those of a ${target}`)
    .option('-t, --type <kind>', 'only where this kind of namespace is not yours (net, mnt, pid, …)')
    .option('-p, --pid <n>', 'only this process, with its uid_map', positiveInteger)
    .option('--tree', 'indent children')
    .action(async (lab: string | undefined, options: object, command: Command) => {
      print((await import('../commands/ps.ts')).ps(lab, options), command)
    })
  verb(program, 'See', 'same', 'compare the namespaces of two targets; exit code 1 when not all are shared', [
    'ns-net same self pid:1234',
    'ns-net same web host',
  ])
    .argument('<a>', target)
    .argument('<b>')
    .action(async (a: string, b: string, _options: object, command: Command) => {
      print((await import('../commands/same.ts')).same(a, b), command)
    })
  verb(program, 'See', 'ss', 'sockets of one place, or of every named namespace, in one table', [
    'ns-net ss',
    'ns-net ss web',
  ])
    .argument('[target]', target)
    .action(async (place: string | undefined, _options: object, command: Command) => {
      print((await import('../commands/ss.ts')).ss(place), command)
    })
  verb(program, 'See', 'whose', 'the lab or container that a process belongs to', ['ns-net whose 1234'])
    .argument('<pid>', 'process id', positiveInteger)
    .action(async (pid: number, _options: object, command: Command) => {
      print((await import('../commands/whose.ts')).whose(pid), command)
    })
}
