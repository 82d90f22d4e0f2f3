import type { Argument, Command } from 'commander'
import { CliError } from '../errors.ts'
import { listApplied } from '../lab-file/applied.ts'
import { listLabs, listNetnsNames } from '../labs.ts'
import { listNetworks } from '../networks.ts'

/**
 * Completion for three shells. The scripts know nothing: they call `ns-net __complete WORD...`, which reads the verbs
 * and options from commander and the names from what is alive.
 */
const scripts: Readonly<Record<string, string>> = {
  bash: `# ns-net completion for bash: source <(ns-net completion bash)
_ns_net() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$(ns-net __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _ns_net ns-net
`,
  zsh: `#compdef ns-net
# ns-net completion for zsh: source <(ns-net completion zsh)
_ns_net() {
  local -a found
  found=("\${(@f)$(ns-net __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -a found
}
compdef _ns_net ns-net
`,
  fish: `# ns-net completion for fish: ns-net completion fish | source
complete -c ns-net -f -a '(ns-net __complete -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
`,
}

export function completionScript(shell: string): string {
  const script = scripts[shell]
  if (!script)
    throw new CliError('usage', `no completion for "${shell}"`, `expected ${Object.keys(scripts).join(', ')}`)
  return script
}

/** What could stand in place of the last word. */
export function complete(program: Command, words: readonly string[]): string[] {
  const before = words.slice(0, -1)
  const last = words.at(-1) ?? ''
  if (before.includes('--')) return []
  let command = program
  let seen = 0
  for (const word of before) {
    if (word.startsWith('-')) continue
    const next = command.commands.find((each) => each.name() === word || each.aliases().includes(word))
    if (next) command = next
    else seen++
  }
  const found = last.startsWith('-')
    ? optionsOf(command)
    : command.commands.length > 0
      ? verbsOf(command)
      : namesFor(command, seen)
  return found.filter((each) => each.startsWith(last))
}

const verbsOf = (command: Command): string[] =>
  command.commands.map((each) => each.name()).filter((name) => !name.startsWith('_'))

const optionsOf = (command: Command): string[] => [...command.options.flatMap(({ long }) => long ?? []), '--help']

/** Live names for the argument at this place; the last one may be repeated. */
function namesFor(command: Command, place: number): string[] {
  const { registeredArguments: all } = command
  const argument = all[place] ?? (all.at(-1)?.variadic ? all.at(-1) : undefined)
  return argument ? namesOf(command, argument) : []
}

const networks = () => listNetworks().map(({ name }) => name)
const labs = () => listLabs().map(({ name }) => name)
/** What the lab files that were applied say under `lab`. */
const files = () => listApplied().map(({ name }) => name)

function namesOf(command: Command, argument: Argument): string[] {
  const verb = [command.parent?.name(), command.name()].join(' ')
  const name = argument.name()
  if (verb === 'ns-net completion') return Object.keys(scripts)
  if (verb === 'ns-net add' || verb === 'net create') return []
  if (name === 'network' || verb.startsWith('net ')) return networks()
  if (verb === 'ns-net adopt') return listNetnsNames()
  if (verb === 'ns-net down') return files()
  if (verb === 'ns-net export') return [...new Set([...files(), ...labs()])]
  return name.endsWith('file') || name.startsWith('port') ? [] : [...labs(), ...others(name)]
}

const others = (argument: string): string[] => (['target', 'a', 'b', 'end', 'lab'].includes(argument) ? ['host'] : [])
