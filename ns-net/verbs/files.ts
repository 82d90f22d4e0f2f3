import type { Command } from 'commander'
import type { ApplyOptions } from '../commands/apply.ts'
import type { DiffOptions } from '../commands/diff.ts'
import type { DownOptions } from '../commands/down.ts'
import type { ExportOptions } from '../commands/export.ts'
import type { PruneOptions } from '../commands/prune.ts'
import type { SaveOptions } from '../commands/save.ts'
import type { ValidateOptions } from '../commands/validate.ts'
import { print, requireRoot, verb } from './verb.ts'

const file = 'YAML or JSON; - is stdin'

/** Labs from files, and back. */
export function fileVerbs(program: Command): void {
  verb(program, 'Files', 'apply', 'make labs, networks and cables as a file says; twice changes nothing', [
    'sudo ns-net apply -f lab.yaml',
    'sudo ns-net apply -f lab.yaml --dry-run',
  ])
    .requiredOption('-f, --file <file>', file)
    .option('--dry-run', 'print the steps and do nothing')
    .option('--prune', 'also remove what is no longer in the file')
    .option('--take-over', 'also change labs and networks that were made without a file')
    .option('--no-tests', 'leave the tests of the file out')
    .action(async (options: ApplyOptions, command: Command) => {
      requireRoot('apply')
      print((await import('../commands/apply.ts')).apply(options), command)
    })
  verb(program, 'Files', 'diff', 'what apply would do; exit code 1 when it is anything', [
    'sudo ns-net diff -f lab.yaml',
  ])
    .requiredOption('-f, --file <file>', file)
    .option('--prune', 'also what apply --prune would remove')
    .action(async (options: DiffOptions, command: Command) => {
      requireRoot('diff')
      print((await import('../commands/diff.ts')).diff(options), command)
    })
  verb(program, 'Files', 'down', 'remove what apply made', ['sudo ns-net down clos1', 'sudo ns-net down -f lab.yaml'])
    .argument('[name]', 'what the file says under lab')
    .option('-f, --file <file>', file)
    .option('--kill', 'end the processes inside first; those of exec are ended in any case')
    .option('--force', 'delete although processes run inside')
    .action(async (name: string | undefined, options: DownOptions, command: Command) => {
      requireRoot('down')
      print((await import('../commands/down.ts')).down(name, options), command)
    })
  verb(program, 'Files', 'export', 'write what is there as a lab file', [
    'sudo ns-net export > lab.yaml',
    'sudo ns-net export clos1 --format json',
  ])
    .argument('[name]', 'of a lab file that was applied, or of a lab (default: all)')
    .option('--all', 'every lab and network')
    .option('--format <format>', 'yaml or json (default: yaml)')
    .action(async (name: string | undefined, options: ExportOptions, command: Command) => {
      requireRoot('export')
      print((await import('../commands/export.ts')).exportLab(name, options), command)
    })
  verb(program, 'Files', 'save', 'write all labs to the disk, for restore', [
    'sudo ns-net save',
    'sudo ns-net save --install-unit',
  ])
    .argument('[file]', '(default: /etc/ns-net/saved.json)')
    .option('--unit', 'print a systemd unit that restores at boot and saves at shutdown')
    .option('--install-unit', 'write that unit to /etc/systemd/system')
    .action(async (target: string | undefined, options: SaveOptions, command: Command) => {
      if (!options.unit) requireRoot('save')
      print((await import('../commands/save.ts')).saveAll(target, options), command)
    })
  verb(program, 'Files', 'restore', 'put back what save wrote; what is there stays', ['sudo ns-net restore'])
    .argument('[file]', '(default: /etc/ns-net/saved.json)')
    .action(async (source: string | undefined, _options: object, command: Command) => {
      requireRoot('restore')
      print((await import('../commands/restore.ts')).restoreAll(source), command)
    })
  verb(program, 'Files', 'validate', 'say what is wrong with a lab file', [
    'ns-net validate -f lab.yaml',
    'ns-net validate --schema > lab.schema.json',
  ])
    .option('-f, --file <file>', file)
    .option('--schema', 'print the JSON schema of lab files')
    .action(async (options: ValidateOptions, command: Command) => {
      print((await import('../commands/validate.ts')).validate(options), command)
    })
  verb(program, 'Host', 'prune', 'find and remove leftovers of crashes, by our marks only', [
    'sudo ns-net prune',
    'sudo ns-net prune --yes',
  ])
    .option('--yes', 'remove without asking')
    .action(async (options: PruneOptions, command: Command) => {
      requireRoot('prune')
      const { json } = command.optsWithGlobals()
      print((await import('../commands/prune.ts')).prune({ ...options, json }), command)
    })
}
