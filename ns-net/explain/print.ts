import type { Step } from './recorder.ts'

/* Steps as text that can be pasted as a whole: the commands with their reasons, then what takes them back, inert. */

const width = 80
/** Room for a reason beside the commands. */
const longestBeside = 44

/** Aligned comments. A long command has its reason on the next line, unless that would be inside a here-document. */
export function stepLines(steps: readonly Step[]): string[] {
  const lengths = steps.map(({ command }) => command.split('\n')[0]!.length).filter((length) => length <= longestBeside)
  const column = Math.max(20, ...lengths) + 2
  return steps.flatMap(({ command, why }) => {
    const [first = '', ...rest] = command.split('\n')
    const comment = `# ${why}`
    const beside = `${first.padEnd(column - 2)}  ${comment}`
    if (beside.length <= width || rest.length > 0) return [beside, ...rest]
    return [first, `${' '.repeat(column)}${comment}`]
  })
}

/** Newest first. What only deletes files is joined. */
export function undoCommands(steps: readonly Step[]): string[] {
  const joined: string[] = []
  for (const command of steps.toReversed().flatMap(({ undo }) => undo)) {
    const verb = /^(rm -f|rmdir --ignore-fail-on-non-empty|mkdir -p) /.exec(command)?.[0]
    const last = joined.at(-1)
    if (verb && last?.startsWith(verb)) joined[joined.length - 1] = `${last} ${command.slice(verb.length)}`
    else joined.push(command)
  }
  return joined.map(folded)
}

/** A long list of files on several lines. */
function folded(command: string): string {
  if (command.length <= width || !/^(rm|rmdir|mkdir) -/.test(command)) return command
  const lines = ['']
  for (const each of command.match(/'[^']*'|\S+/g) ?? []) {
    const last = lines.at(-1)!
    if (last !== '' && last.length + each.length + 3 > width) lines.push(`  ${each}`)
    else lines[lines.length - 1] = last === '' ? each : `${last} ${each}`
  }
  return lines.join(' \\\n')
}

/** The undo as the text of a here-document that nobody reads: pasting everything does not undo it at once. */
export function undoLines(steps: readonly Step[]): string[] {
  const commands = undoCommands(steps)
  if (commands.length === 0) return []
  return [
    ": <<'UNDO'  # to take it back, paste the lines up to UNDO",
    ...commands.flatMap((each) => each.split('\n')),
    'UNDO',
  ]
}

export const asRemarks = (text: string): string[] =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => `# ${line}`.trimEnd())
