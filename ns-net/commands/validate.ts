import { CliError } from '../errors.ts'
import { labSchema } from '../lab-file/schema.ts'
import { readLabFile } from '../lab-file/source.ts'
import type { Report } from '../output.ts'

export interface ValidateOptions {
  readonly file?: string
  readonly schema?: boolean
}

/** Reads a lab file and says what is wrong with it; or prints the schema. Nothing of this machine is looked at. */
export function validate({ file, schema }: ValidateOptions): Report {
  if (schema) return { json: labSchema, text: `${JSON.stringify(labSchema, undefined, 2)}\n` }
  if (file === undefined) throw new CliError('usage', 'validate needs a file', 'ns-net validate -f lab.yaml')
  const { name, networks, nodes, links, tests } = readLabFile(file)
  const counts = { networks: networks.size, nodes: nodes.size, links: links.length, tests: tests.length }
  return {
    json: { lab: name, valid: true, ...counts },
    text: `${name}  valid: ${Object.entries(counts)
      .map(([what, n]) => `${n} ${what}`)
      .join(', ')}\n`,
  }
}
