import { Host } from '../../plugins/contract/host.ts'
import { CliError } from '../errors.ts'
import { takeDown } from '../lab-file/down.ts'
import { readLabFile } from '../lab-file/source.ts'
import { checkLabName, exclusively } from '../labs.ts'
import type { Report } from '../output.ts'

export interface DownOptions {
  readonly file?: string
  readonly kill?: boolean
  readonly force?: boolean
}

/** Removes what `apply` made, and nothing else. */
export function down(name: string | undefined, { file, ...options }: DownOptions): Report {
  if ((name === undefined) === (file === undefined))
    throw new CliError(
      'usage',
      'down takes the name of a lab file, or the file',
      'ns-net down NAME, or ns-net down -f FILE',
    )
  const subject = name ?? readLabFile(file!).name
  checkLabName(subject)
  const started = performance.now()
  const { labs, networks, notes } = exclusively(() => {
    using host = new Host()
    return takeDown(subject, options, host)
  })
  const took = Math.round(performance.now() - started)
  return {
    json: { lab: subject, labs, networks, notes },
    text: [
      ...labs.map((lab) => `${lab}  deleted\n`),
      ...networks.map((network) => `network ${network}  deleted\n`),
      ...notes.map((note) => `note: ${note}\n`),
      `${subject}  down  (${took} ms)\n`,
    ].join(''),
  }
}
