import fs from 'node:fs'
import type { Attachment } from '../../config/attachment.ts'
import { Section } from '../../config/reader.ts'
import { release } from '../../ipam/host-local.ts'
import { readLease } from '../../ipam/lease-files.ts'
import { readBuckets } from '../../ipam/lease-index.ts'
import { listEmptyCgroups, removeEmptyCgroup } from '../cgroup.ts'
import { removeEtc } from '../etc.ts'
import { forgetApplied, labsOfFile, listApplied } from '../lab-file/applied.ts'
import { endCommands, forgetCommands, listCommands, listLabsWithCommands } from '../lab-file/background.ts'
import {
  findLab,
  isNetnsName,
  type Lab,
  listLabs,
  netnsPath,
  networkDirectory,
  removeIfEmpty,
  stateDirectory,
} from '../labs.ts'
import { findNetwork, listNetworks } from '../networks.ts'
import { listCache, removeCache } from '../result-cache.ts'
import type { Leftover } from './leftover.ts'
import type { Owners } from './owners.ts'

/** Files that we wrote for somebody who is gone. */

export function findFileLeftovers(owners: Owners): Leftover[] {
  return [
    ...findLeases(owners),
    ...findResults(),
    ...findSettings(owners),
    ...findEtc(),
    ...findState(),
    ...findCgroups(),
  ]
}

const namesIn = (directory: string): string[] => (fs.existsSync(directory) ? fs.readdirSync(directory).sort() : [])

/** Folders of leases: the usual one, and what networks that are known say. */
function leaseFolders(): string[] {
  const configured = [...listNetworks(), ...listCache().map(({ list }) => list)].flatMap(({ plugins }) =>
    plugins.flatMap(({ ipam }) => (ipam as { dataDir?: unknown } | undefined)?.dataDir ?? []),
  )
  return [...new Set(['/var/lib/cni/networks', ...configured.filter((each) => typeof each === 'string')])]
}

/** The index tells which leases were given by us; those of other IPAM plugins in the same folder are not looked at. */
function findLeases(owners: Owners): Leftover[] {
  return leaseFolders().flatMap((dataDir) =>
    namesIn(`${dataDir}/.ns-net`).flatMap((network) =>
      readBuckets(`${dataDir}/.ns-net/${network}`)
        .flatMap(({ entries }) => entries)
        .filter(({ own }) => own)
        .flatMap(({ address, containerId, ifName }) => {
          const owner: Attachment = { network, containerId, ifName }
          const stands = readLease(`${dataDir}/${network}`, address)
          if (owners.has(owner) || stands?.containerId !== containerId || stands.ifName !== ifName) return []
          const why = `${containerId} is gone`
          return [
            {
              kind: 'lease',
              name: `${address} on ${network}`,
              why,
              remove: () => release({ network, dataDir }, owner),
            } as const,
          ]
        }),
    ),
  )
}

/** Results of labs; those of other runtimes are for their own DEL. */
function findResults(): Leftover[] {
  return listCache().flatMap(({ list, target }) => {
    const { containerId, netns, ifName } = target
    if (netns !== netnsPath(containerId) || isNetnsName(containerId)) return []
    const why = 'the lab is gone'
    return [
      {
        kind: 'result',
        name: `${list.name} ${containerId} ${ifName}`,
        why,
        remove: () => removeCache(list, target),
      } as const,
    ]
  })
}

const tuningFolder = '/run/cni/tuning'

/** Plugin tuning: what the settings were, for DEL. Those of the reference plugin name no network. */
function findSettings(owners: Owners): Leftover[] {
  return namesIn(tuningFolder).flatMap((file) => {
    const [, containerId, ifName] = /^(.+)_([^_]+)\.json$/.exec(file) ?? []
    const network = networkIn(`${tuningFolder}/${file}`)
    if (!containerId || !ifName || !network || owners.has({ network, containerId, ifName })) return []
    const path = `${tuningFolder}/${file}`
    return [
      {
        kind: 'settings',
        name: path,
        why: `${containerId} is gone`,
        remove: () => fs.rmSync(path, { force: true }),
      } as const,
    ]
  })
}

function networkIn(file: string): string | undefined {
  try {
    return new Section(JSON.parse(fs.readFileSync(file, 'utf8'))).get('network')?.string()
  } catch {
    return undefined // not ours, or cut short: it says nothing
  }
}

/** What `writeEtc` made: known by its first line, and by where the link leads. */
function findEtc(): Leftover[] {
  return namesIn('/etc/netns').flatMap((name) => {
    const directory = `/etc/netns/${name}`
    if (findLab(name) || isNetnsName(name)) return []
    const isOurs = textOf(`${directory}/resolv.conf`).startsWith('# written by ns-net')
    const leads = linkOf(`${directory}/hosts`) === `${stateDirectory}/hosts`
    if (!isOurs && !leads) return []
    const remove = () => (isOurs ? removeEtc(name) : fs.rmSync(`${directory}/hosts`, { force: true }))
    return [{ kind: 'file', name: directory, why: 'no lab has this name', remove } as const]
  })
}

function textOf(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

function linkOf(file: string): string | undefined {
  try {
    return fs.readlinkSync(file)
  } catch {
    return undefined
  }
}

/** Below /run/ns-net: what belongs to labs and files that are gone, and what a killed process had begun to write. */
function findState(): Leftover[] {
  const labs = listLabs()
  return [...findCommands(labs), ...findApplications(labs), ...findTemporaries(), ...findHosts(labs)]
}

function findCommands(labs: readonly Lab[]): Leftover[] {
  return listLabsWithCommands()
    .filter((name) => !labs.some((lab) => lab.name === name))
    .map((name) => ({
      kind: 'file',
      name: `${stateDirectory}/exec/${name}`,
      why: 'the lab is gone',
      remove() {
        endCommands(listCommands(name))
        forgetCommands(name)
      },
    }))
}

function findApplications(labs: readonly Lab[]): Leftover[] {
  return listApplied()
    .filter(({ name, networks }) => labsOfFile(name, labs).length === 0 && !networks.some(findNetwork))
    .map(({ name }) => ({
      kind: 'file',
      name: `${stateDirectory}/applied/${name}.json`,
      why: 'nothing of it is there',
      remove: () => forgetApplied(name),
    }))
}

function findTemporaries(): Leftover[] {
  return [`${stateDirectory}/labs`, `${stateDirectory}/applied`, networkDirectory].flatMap((directory) =>
    namesIn(directory)
      .filter((name) => name.endsWith('.new'))
      .map((name): Leftover => {
        const path = `${directory}/${name}`
        const remove = () => {
          fs.rmSync(path, { force: true })
          removeIfEmpty(directory)
        }
        return { kind: 'file', name: path, why: 'its writer was killed', remove }
      }),
  )
}

function findHosts(labs: readonly Lab[]): Leftover[] {
  const path = `${stateDirectory}/hosts`
  if (labs.length > 0 || !fs.existsSync(path)) return []
  return [{ kind: 'file', name: path, why: 'there are no labs', remove: () => fs.rmSync(path, { force: true }) }]
}

function findCgroups(): Leftover[] {
  return listEmptyCgroups()
    .filter((name) => !findLab(name))
    .map((name) => ({
      kind: 'cgroup',
      name: `ns-net-${name}`,
      why: 'nobody is in it',
      remove: () => removeEmptyCgroup(name),
    }))
}
