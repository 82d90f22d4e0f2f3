import { spawnSync } from 'node:child_process'
import type { Change } from '../../netlink-lib/journal.ts'
import { readRestoration, undoLines } from './iptables.ts'
import { host } from './place.ts'
import type { Step } from './recorder.ts'
import { whyOf } from './why.ts'
import { hereDocument, phrase, word } from './words.ts'

type Program = Change & { readonly kind: 'program' }

/** A program that changes something, as it was called; undefined when it would not. */
export function programStep(change: Program): Step | undefined {
  const { command, input } = change
  const [program = ''] = command
  const told = { why: whyOf(change, host, undefined), place: host.name }
  if (/tables-restore$/.test(program)) {
    const undo = undoRestoration(change)
    const isQuestion = readRestoration(input).lines.every((line) => line.startsWith('-C '))
    return isQuestion ? undefined : { ...told, command: restoration(command, input), undo }
  }
  if (program === 'firewall-cmd') {
    const opposite = command.map((each) =>
      each.replace(/^--(add|remove)-/, (_, verb) => `--${verb === 'add' ? 'remove' : 'add'}-`),
    )
    return { ...told, command: phrase(...command.map(word)), undo: [phrase(...opposite.map(word))] }
  }
  return { ...told, ...pluginCall(change) }
}

const restoration = (command: readonly string[], input: string): string =>
  hereDocument(phrase(...command.map(word)), input.trimEnd().split('\n'))

function undoRestoration({ command, input }: Program): string[] {
  const { table, lines } = readRestoration(input)
  const save = command[0]!.replace(/restore$/, 'save')
  const { stdout, status } = spawnSync(save, ['-t', table], { encoding: 'utf8' })
  if (status !== 0) return [`# what ${save} would have said is not known`]
  const undo = undoLines(lines, stdout.split('\n'))
  return undo.length === 0 ? [] : [restoration(command, [`*${table}`, ...undo, 'COMMIT'].join('\n'))]
}

/** A foreign plugin is called as a runtime does it. It alone knows what it does: DEL takes back an ADD, and ADD a DEL. */
function pluginCall({ command, input, env = {} }: Program): Pick<Step, 'command' | 'undo'> {
  const call = (verb: string, document: string) => {
    const variables = Object.entries({ ...env, CNI_COMMAND: verb }).map(([name, value]) => `${name}=${word(value)}`)
    return hereDocument(phrase(...variables, ...command.map(word)), document.split('\n'))
  }
  const verb = env.CNI_COMMAND ?? 'ADD'
  const { prevResult: _, ...anew } = JSON.parse(input)
  const undo = verb === 'ADD' ? call('DEL', input) : call('ADD', JSON.stringify(anew))
  return { command: call(verb, input), undo: [undo] }
}
