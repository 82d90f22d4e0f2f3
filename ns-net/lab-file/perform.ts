import type { Host } from '../../plugins/contract/host.ts'
import { targetOf } from '../attachments.ts'
import { refuseBusy } from '../commands/del.ts'
import { type ConfList, parseConfList } from '../conflist.ts'
import { writeEtc } from '../etc.ts'
import { type Lab, writeLab } from '../labs.ts'
import { createLab } from '../lifecycle.ts'
import {
  createNetwork,
  defaultNetwork,
  findNetwork,
  importNetwork,
  releaseNetwork,
  removeNetwork,
  requireNetwork,
} from '../networks.ts'
import { removeLabs } from '../removal.ts'
import { readCache } from '../result-cache.ts'
import { attachInOrder, detachOne, publish, repair } from './attachment-steps.ts'
import { endCommands, listCommands, removeCommand, startCommand } from './background.ts'
import { plugIn, pullOut, setLink } from './cable-steps.ts'
import { fileLabel, type NetworkEntry, type NodeEntry } from './document.ts'
import { isSame, plainEntry, specFor } from './networks.ts'
import { specsOf } from './node-plan.ts'
import { addRoute, changeAddress, deleteRoute, setSetting } from './settings.ts'
import { applyShape } from './shapes.ts'
import { labOf, type Site } from './site.ts'
import type { Step } from './steps.ts'

/** Carries out one step: whole, or not at all and throws. */
export function perform(step: Step, site: Site): unknown {
  const { host, lists } = site
  switch (step.kind) {
    case 'create network':
      return lists.set(step.network.name, makeNetwork(step.network, host))
    case 'delete network':
      return deleteNetwork(step.name, site)
    case 'create lab':
      return createLab(labSpec(step.node, lists), host)
    case 'delete lab':
      return deleteLabs([step.lab], host)
    case 'take over':
      return relabel(step.lab, { ...labOf(step.lab).labels, [fileLabel]: site.file! })
    case 'attach':
      return attachInOrder(step, site)
    case 'detach':
      return detachOne(step.lab, step.ifName, host)
    case 'repair':
      return repair(step, site)
    case 'withdraw':
      return publish({ ...step, ports: step.rest }, host)
    case 'publish':
      return publish(step, host)
    case 'set dns':
      return setDns(step.lab, step.dns)
    case 'set labels':
      return relabel(step.lab, { ...step.labels, ...fileOf(labOf(step.lab)) })
    case 'set sysctl':
      return setSetting(step, host)
    case 'add route':
      return addRoute(step, host)
    case 'delete route':
      return deleteRoute(step, host)
    case 'add cable':
      return plugIn(step.link, host)
    case 'delete cable':
      return pullOut(step, host)
    case 'add address':
    case 'delete address':
      return changeAddress(step, host)
    case 'set link':
      return setLink(step, host)
    case 'shape':
      return applyShape(step.end.place, step.end.ifName, step.shape)
    case 'start':
      return startCommand(step.lab, step.command)
    case 'end':
      return removeCommand(step.lab, step.command)
  }
}

function makeNetwork(entry: NetworkEntry, host: Host): ConfList {
  if (entry.conflist) return importNetwork(parseConfList({ ...entry.conflist, name: entry.name }))
  if (entry.name === defaultNetwork && isSame(entry, plainEntry(defaultNetwork)))
    return requireNetwork(entry.name, host)
  return createNetwork(specFor(entry), host)
}

/** One that was made by `add --subnet` is nowhere but in its attachments, and went with them. */
function deleteNetwork(name: string, { host, lists }: Site): void {
  const list = lists.get(name)
  if (findNetwork(name)) removeNetwork(name, host)
  else if (list) releaseNetwork(list, host)
  lists.delete(name)
}

const labSpec = (node: NodeEntry, lists: ReadonlyMap<string, ConfList>) => ({
  name: node.name,
  attachments: specsOf(node, lists),
  labels: node.labels,
  dns: node.dns,
})

/** Labs that are not in the file any more, or whose namespace is gone. */
export function deleteLabs(names: readonly string[], host: Host): void {
  const labs = names.map(labOf)
  endCommands(names.flatMap(listCommands))
  refuseBusy(labs)
  removeLabs(labs, host)
}

const fileOf = ({ labels }: Lab): Record<string, string> =>
  labels?.[fileLabel] === undefined ? {} : { [fileLabel]: labels[fileLabel] }

function relabel(name: string, labels: Readonly<Record<string, string>>): void {
  const { labels: _, ...rest } = labOf(name)
  writeLab({ ...rest, ...(Object.keys(labels).length > 0 && { labels }) })
}

function setDns(name: string, servers: readonly string[]): void {
  const { dns: _, ...lab } = labOf(name)
  const [first] = lab.attachments
  const given = first && readCache(first.config, targetOf(name, first))?.result
  writeEtc(name, servers.length > 0 ? { nameservers: [...servers] } : (given?.dns as object | undefined))
  writeLab({ ...lab, ...(servers.length > 0 && { dns: servers }) })
}
