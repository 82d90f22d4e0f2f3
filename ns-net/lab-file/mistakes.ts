import { ConfigError, type Section, type Value } from '../../config/reader.ts'
import { editDistance } from '../../config/suggest.ts'
import { CliError } from '../errors.ts'

/** All that is wrong with a lab file: each mistake with its path, what was expected and what is there. */
export class Mistakes {
  readonly list: ConfigError[] = []

  /** Goes on after a mistake; undefined stands for what could not be read. */
  attempt<T>(read: () => T): T | undefined {
    try {
      return read()
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      this.list.push(error)
      return undefined
    }
  }

  add(path: string, problem: string): void {
    this.list.push(new ConfigError(path, problem))
  }

  /** Keys that nobody asked the section for. The reader takes any letter case, as Go does; a lab file does not. */
  refuseUnknown(value: Value, section: Section): void {
    const known = section.known()
    for (const key of Object.keys(value.json as object))
      if (!known.includes(key)) this.add(section.at(key), `unknown key${suggestion(key, known)}`)
  }
}

/** `; did you mean "nets"?`, or what there is to choose from. */
export function suggestion(word: string, known: readonly string[]): string {
  const [best] = known
    .map((candidate) => ({ candidate, distance: editDistance(word.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)
  if (best && best.distance <= Math.max(1, Math.floor(word.length / 3))) return `; did you mean "${best.candidate}"?`
  return known.length > 0 ? `; expected one of ${known.join(', ')}` : ''
}

/** The error for people: one line for each mistake. */
export function mistakesError(file: string, mistakes: readonly ConfigError[]): CliError {
  const [first] = mistakes
  const message =
    mistakes.length === 1
      ? `${file}: ${first!.message}`
      : `${file}: ${mistakes.length} mistakes\n${mistakes.map((each) => `  ${each.message}`).join('\n')}`
  return new CliError(
    'usage',
    message,
    'ns-net validate --schema prints the schema; docs/lab-files.md explains the keys',
  )
}
