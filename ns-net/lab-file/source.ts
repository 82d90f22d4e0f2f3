import fs from 'node:fs'
import { parse, YAMLParseError } from 'yaml'
import { messageOf } from '../../plugins/contract/errors.ts'
import { CliError } from '../errors.ts'
import type { LabDocument } from './document.ts'
import { mistakesError } from './mistakes.ts'
import { parseLabDocument } from './parse.ts'

/** Reads a lab file, YAML or JSON; `-` is stdin. Throws with all mistakes that it finds. */
export function readLabFile(file: string): LabDocument {
  const name = file === '-' ? 'stdin' : file
  const { document, mistakes } = parseLabDocument(parseYaml(readText(file, name), name))
  if (document) return document
  throw mistakesError(name, mistakes)
}

function readText(file: string, name: string): string {
  try {
    return fs.readFileSync(file === '-' ? 0 : file, 'utf8')
  } catch (error) {
    throw new CliError('notFound', `cannot read ${name}: ${messageOf(error)}`)
  }
}

/** JSON is YAML, and by itself read in a tenth of the time. Version 1.2: `no` and `8080:80` are texts. */
function parseYaml(text: string, name: string): unknown {
  if (text.startsWith('{')) {
    try {
      return JSON.parse(text)
    } catch {
      // YAML also begins like that, and says where a mistake is
    }
  }
  try {
    return parse(text, { merge: true, prettyErrors: true, logLevel: 'error' })
  } catch (error) {
    if (!(error instanceof YAMLParseError) && !(error instanceof ReferenceError)) throw error
    throw new CliError('usage', `${name} is no YAML: ${error.message.trimEnd()}`, 'JSON is fine as well')
  }
}
