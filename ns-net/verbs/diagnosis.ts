import { type Command, InvalidArgumentError } from 'commander'
import type { MatrixOptions } from '../commands/matrix.ts'
import { collect, positiveInteger, print, requireRoot, verb } from './verb.ts'

/** Verbs that find out what is wrong. They change nothing, and name the command that would. */
export function diagnosisVerbs(program: Command): void {
  verb(program, 'Diagnose', 'why', 'where packets from one place to another die, and the remedy', [
    'sudo ns-net why web 8.8.8.8',
    'sudo ns-net why web api:80 --live',
  ])
    .argument('<from>', 'lab, pid:N, path:FILE or host')
    .argument('<to>', 'lab, address or host, each with :PORT[/udp]')
    .option('--live', 'send a real packet and trace it through the rules')
    .action(async (from: string, to: string, options: { live?: boolean }, command: Command) => {
      requireRoot('why')
      print((await import('../commands/why.ts')).why(from, to, options), command)
    })
  verb(program, 'Diagnose', 'doctor', 'what this machine lacks for labs, what is wrong with them, and the remedies', [
    'sudo ns-net doctor',
    'ns-net doctor --json',
  ]).action(async (_options: object, command: Command) => {
    print((await import('../commands/doctor.ts')).doctor(), command)
  })
  verb(program, 'Diagnose', 'matrix', 'which labs reach which; exit code 1 unless all do', [
    'sudo ns-net matrix',
    'sudo ns-net matrix web api --port 80',
  ])
    .argument('[lab...]', 'only these (default: all labs)')
    .option('--port <n>', 'TCP to this port instead of echo requests', port)
    .option('--to <address>', 'and this address; may be repeated', collect)
    .action(async (labs: string[], options: MatrixOptions, command: Command) => {
      requireRoot('matrix')
      print((await import('../commands/matrix.ts')).matrix(labs, options), command)
    })
}

function port(text: string): number {
  const number = positiveInteger(text)
  if (number > 65535) throw new InvalidArgumentError('expected a number from 1 to 65535')
  return number
}
