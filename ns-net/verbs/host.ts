import fs from 'node:fs'
import type { Command } from 'commander'
import { print, verb } from './verb.ts'

/** Verbs about the host and about ns-net itself. */
export function hostVerbs(program: Command): void {
  verb(program, 'Host', 'completion', 'a script that completes verbs, options and live names', [
    'source <(ns-net completion bash)',
    'ns-net completion fish | source',
  ])
    .argument('<shell>', 'bash, zsh or fish')
    .action(async (shell: string) => {
      fs.writeSync(1, (await import('../commands/completion.ts')).completionScript(shell))
    })
  program
    .command('__complete', { hidden: true })
    .argument('[word...]')
    .action(async (words: string[]) => {
      const found = (await import('../commands/completion.ts')).complete(program, words)
      fs.writeSync(1, found.map((each) => `${each}\n`).join(''))
    })
  verb(program, 'Host', 'version', 'versions of ns-net, of its JavaScript engine and of the CNI spec', [
    'ns-net version --json',
  ]).action(async (_options: object, command: Command) => {
    print((await import('../commands/version.ts')).version(), command)
  })
}
