import { stringify } from 'yaml'
import { Host } from '../../plugins/contract/host.ts'
import { CliError } from '../errors.ts'
import { findApplied, labsOfFile } from '../lab-file/applied.ts'
import { fileLabel, type LabDocument } from '../lab-file/document.ts'
import { describeLive, type Selection } from '../lab-file/export.ts'
import { formatLabDocument } from '../lab-file/format.ts'
import { parseLabDocument } from '../lab-file/parse.ts'
import { checkLabName, exclusively, findLab, listLabs } from '../labs.ts'
import { listNetworks } from '../networks.ts'
import type { Report } from '../output.ts'

export interface ExportOptions {
  readonly all?: boolean
  readonly format?: string
}

/** Writes what is there as a lab file: of one file, one lab, or all. */
export function exportLab(name: string | undefined, { all, format = 'yaml' }: ExportOptions): Report {
  if (format !== 'yaml' && format !== 'json')
    throw new CliError('usage', `unknown format "${format}"`, 'expected yaml or json')
  if (name !== undefined && all) throw new CliError('usage', 'a name and --all exclude each other')
  if (name !== undefined) checkLabName(name)
  const document = exclusively(() => {
    using host = new Host()
    return withoutLabel(describeLive(choose(name), host))
  })
  const json = formatLabDocument(document)
  return { json, text: format === 'json' ? `${JSON.stringify(json, undefined, 2)}\n` : stringify(json) }
}

function choose(name: string | undefined): Selection {
  if (name === undefined)
    return { name: 'all', labs: listLabs(), networks: listNetworks().map((network) => network.name) }
  const applied = findApplied(name)
  const labs = labsOfFile(name)
  if (applied || labs.length > 0) {
    const tests = applied && parseLabDocument(applied.document).document?.tests
    return { name, labs, networks: applied?.networks ?? [], tests }
  }
  const lab = findLab(name)
  if (!lab)
    throw new CliError('notFound', `"${name}" is neither a lab nor a lab file that was applied`, 'ns-net ls shows all')
  return { name, labs: [lab], networks: [] }
}

/** Applying the file gives the label again. */
function withoutLabel(document: LabDocument): LabDocument {
  const nodes = [...document.nodes].map(([name, node]) => {
    const { [fileLabel]: _, ...labels } = node.labels
    return [name, { ...node, labels }] as const
  })
  return { ...document, nodes: new Map(nodes) }
}
