import fs from 'node:fs'
import path from 'node:path'
import { Host } from '../../plugins/contract/host.ts'
import { CliError } from '../errors.ts'
import { defaultFile, save } from '../lab-file/saved.ts'
import { installUnit, unitName, unitText } from '../lab-file/unit.ts'
import { exclusively } from '../labs.ts'
import type { Report } from '../output.ts'

export interface SaveOptions {
  readonly unit?: boolean
  readonly installUnit?: boolean
}

/** Writes all labs down; or gives the systemd unit that does it at every shutdown. */
export function saveAll(file: string | undefined, { unit, installUnit: install }: SaveOptions): Report {
  if (file !== undefined && (unit || install))
    throw new CliError('usage', 'the unit saves to its own file', `without FILE, which is ${defaultFile}`)
  if (install) return installed(installUnit(program()))
  if (unit) return { json: { name: unitName, text: unitText(program()) }, text: unitText(program()) }
  const target = path.resolve(file ?? defaultFile)
  const { nodes, networks, links } = exclusively(() => {
    using host = new Host()
    return save(target, host)
  })
  const counts = { labs: nodes.size, networks: networks.size, links: links.length }
  return {
    json: { file: target, ...counts },
    text: `${target}  ${Object.entries(counts)
      .map(([what, n]) => `${n} ${what}`)
      .join(', ')}\n`,
  }
}

/** The image is started by its own name, whatever link to it this process was started by. */
const program = (): string => fs.realpathSync(process.execPath)

const installed = (file: string): Report => ({
  json: { file },
  text: `${file}  written\ntry: systemctl daemon-reload && systemctl enable --now ${unitName}\n`,
})
