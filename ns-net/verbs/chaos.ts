import type { Command } from 'commander'
import type { ChaosAddOptions } from '../commands/chaos.ts'
import { collect, positiveInteger, print, requireRoot, verb } from './verb.ts'

/** Faults on purpose, for networks whose conflist has the plugin chaos. */
export function chaosVerbs(program: Command): void {
  const chaos = verb(program, 'Diagnose', 'chaos', 'faults on purpose, by the plugin chaos: add, ls, rm, report', [
    'sudo ns-net chaos add --pod "web-*" --delay 2s --probability 0.5',
    'sudo ns-net chaos report',
  ])
  verb(chaos, 'Diagnose', 'add', 'a rule at run time: when which fault happens to whom', [
    'sudo ns-net chaos add --verb add --error 11 --count 3',
    'sudo ns-net chaos add --pod web --partition db',
  ])
    .option('--id <name>', 'name of the rule (default: runN)')
    .option('--verb <verb>', 'add, del, check, gc or status; may be repeated (default: add)', collect)
    .option('--namespace <pattern>', 'K8S_POD_NAMESPACE, with * and ?')
    .option('--pod <pattern>', 'K8S_POD_NAME')
    .option('--container <pattern>', 'the container id')
    .option('--label <key=pattern>', 'a label in args.cni.labels; may be repeated', collect)
    .option('--probability <p>', 'from 0 to 1 (default: 1)')
    .option('--count <n>', 'at most so many faults', positiveInteger)
    .option('--after <time>', 'not before, ISO 8601')
    .option('--until <time>', 'not from then on')
    .option('--delay <time>', 'wait first: 500ms, 2s, 1m')
    .option('--error <code>', 'fail with this CNI error code')
    .option('--afterwards', 'with --error: when the work is done')
    .option('--hang', 'until killed')
    .option('--result <kind>', 'lie: missing-ip, wrong-version or duplicate-address')
    .option('--drop', 'keep a DEL from the plugin that chaos stands in for')
    .option('--loss <percent>', 'of what the pod sends')
    .option('--rate <rate>', 'of what the pod receives: 512kbit, 1mbit')
    .option('--partition <pod>', 'no packets between the pod and [NAMESPACE/]POD')
    .action(async (options: ChaosAddOptions, command: Command) => {
      requireRoot('chaos add')
      print((await import('../commands/chaos.ts')).addRule(options), command)
    })
  verb(chaos, 'Diagnose', 'ls', 'rules given at run time', ['sudo ns-net chaos ls'])
    .alias('list')
    .action(async (_options: object, command: Command) => {
      requireRoot('chaos ls')
      print((await import('../commands/chaos.ts')).lsRules(), command)
    })
  verb(chaos, 'Diagnose', 'rm', 'remove rules given at run time', [
    'sudo ns-net chaos rm run1',
    'sudo ns-net chaos rm --all',
  ])
    .alias('del')
    .argument('[id...]')
    .option('--all', 'every one')
    .action(async (ids: string[], { all = false }: { all?: boolean }, command: Command) => {
      requireRoot('chaos rm')
      print((await import('../commands/chaos.ts')).rmRules(ids, all), command)
    })
  verb(chaos, 'Diagnose', 'report', 'every fault that was injected', ['sudo ns-net chaos report --json'])
    .option('--clear', 'and forget them, with the rules given at run time and all counts')
    .action(async ({ clear = false }: { clear?: boolean }, command: Command) => {
      requireRoot('chaos report')
      print((await import('../commands/chaos.ts')).report(clear), command)
    })
}
