import { nameNetns } from '../../netlink-lib/netns.ts'
import { CliError, toCliError } from '../errors.ts'
import { addToHosts, writeEtc } from '../etc.ts'
import { checkLabName, exclusively, findLab, listNetnsNames, writeLab } from '../labs.ts'
import type { Report } from '../output.ts'
import { parseTarget } from '../targets.ts'

/**
 * Takes over a namespace that somebody else made: one with a name, or a process's, which gets one. From then on it is a
 * lab, and `del` deletes it with all that is in it.
 */
export function adopt(target: string, as: string | undefined): Report {
  const found = parseTarget(target)
  const name = as ?? (found.kind === 'name' ? found.name : undefined)
  if (name === undefined) throw new CliError('usage', `${target} has no name`, `ns-net adopt ${target} NAME`)
  if (found.kind === 'host') throw new CliError('usage', "the host's own namespace cannot be a lab")
  checkLabName(name)
  exclusively(() => {
    if (findLab(name)) throw new CliError('conflict', `lab "${name}" already exists`, `ns-net show ${name}`)
    const isNamed = listNetnsNames().includes(name)
    if (isNamed && !(found.kind === 'name' && found.name === name))
      throw new CliError('conflict', `a namespace "${name}" already exists`, 'choose another name')
    const lab = { name, created: new Date().toISOString(), attachments: [], adopted: true }
    try {
      if (!isNamed) nameNetns(name, found.netns)
      writeLab(lab)
      writeEtc(name, undefined)
      addToHosts(lab)
    } catch (error) {
      throw toCliError(error, `cannot adopt "${name}"`)
    }
  })
  return { json: { name, adopted: true }, text: `${name}  adopted; ns-net attach ${name} NETWORK connects it\n` }
}
