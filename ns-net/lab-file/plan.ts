import { CliError } from '../errors.ts'
import type { Lab } from '../labs.ts'
import { defaultNetwork } from '../networks.ts'
import { planCables } from './cable-plan.ts'
import { fileLabel, type LabDocument, type NodeEntry } from './document.ts'
import type { Live, LiveLab } from './live.ts'
import { networkDifference, plainEntry, preview } from './networks.ts'
import { type NetworkPlan, planNode } from './node-plan.ts'
import { inOrder, type Step } from './steps.ts'

/** What to make of a document, and how far to go. */
export interface Wish {
  readonly document: LabDocument
  /** Networks that this file made earlier. */
  readonly made: ReadonlySet<string>
  /** Also remove what is no longer in the file. */
  readonly prune?: boolean
  /** Also change what was made without a file. */
  readonly takeOver?: boolean
  /** Its labs belong to no file but to those that their labels name. */
  readonly restore?: boolean
}

export interface Plan {
  /** In the order in which they are carried out. */
  readonly steps: readonly Step[]
  /** What stays although the file does not have it. */
  readonly notes: readonly string[]
  /** What is different and was made without a file, so that only {@link Wish.takeOver} changes it. */
  readonly untouched: readonly string[]
}

/** The difference between what a document says and what is there. Nothing is asked or changed here. */
export function planChanges(wish: Wish, live: Live): Plan {
  const { document } = wish
  const networks = planNetworks(wish, live)
  const steps: Step[] = [...networks.steps]
  const untouched = [...networks.untouched]
  const notes: string[] = []
  const going = new Set<string>()
  for (const { record } of labsNoLongerWanted(wish, live)) {
    if (wish.prune) {
      steps.push({ kind: 'delete lab', lab: record.name, why: 'it is not in the file' })
      going.add(record.name)
    } else notes.push(`lab ${record.name} is not in the file; --prune removes it`)
  }
  const changes = [...document.nodes.values()].map((node) => changesOf(node, wish, live, networks))
  const cables = planCables(wish, live, going, goneInterfaces(changes.flatMap(({ steps }) => steps)))
  for (const { node, steps: own } of changes) {
    const lab = live.labs.get(node.name)
    const isChanged = own.length > 0 || cables.some((step) => concerns(step, node.name))
    if (!lab || !isChanged || wish.restore || belongsTo(lab.record, document.name)) continue
    refuseOtherOwner(lab.record)
    if (wish.takeOver) steps.push({ kind: 'take over', lab: node.name })
    else untouched.push(`lab "${node.name}"`)
  }
  steps.push(...creationsFirst(changes.flatMap((change) => change.steps)), ...cables)
  notes.push(...networks.notes)
  return { steps: inOrder(withoutDuplicates(steps)), notes, untouched }
}

const belongsTo = ({ labels }: Lab, file: string): boolean => labels?.[fileLabel] === file

const labsNoLongerWanted = ({ document, restore }: Wish, { labs }: Live): LiveLab[] =>
  restore
    ? []
    : [...labs.values()].filter(({ record }) => belongsTo(record, document.name) && !document.nodes.has(record.name))

const concerns = (step: Step, lab: string): boolean => {
  if (step.kind === 'add cable') return step.link.a.place === lab || step.link.b.place === lab
  if (step.kind === 'delete cable') return step.a.place === lab || step.b.place === lab
  return 'end' in step && step.end.place === lab
}

/** A cable between two nodes is the business of both. */
function withoutDuplicates(steps: readonly Step[]): Step[] {
  const seen = new Set<string>()
  return steps.filter((step) => {
    const key = JSON.stringify(step)
    return !seen.has(key) && seen.add(key)
  })
}

function changesOf(node: NodeEntry, { document, restore }: Wish, live: Live, networks: NetworkPlan) {
  const { name } = node
  if (live.foreign.has(name))
    throw new CliError(
      'conflict',
      `a network namespace "${name}" already exists and was not made by ns-net`,
      `choose another name, take it over: ns-net adopt ${name}, or remove it: ip netns del ${name}`,
    )
  const labels = restore ? node.labels : { ...node.labels, [fileLabel]: document.name }
  return { node, steps: planNode({ ...node, labels }, live.labs.get(name), networks) }
}

/** What another file has may be in this one too, as long as both say the same. */
function refuseOtherOwner({ name, labels }: Lab): void {
  const owner = labels?.[fileLabel]
  if (owner !== undefined)
    throw new CliError(
      'conflict',
      `lab "${name}" belongs to the lab file "${owner}", and is different here`,
      `give the node another name, or remove the other one: ns-net down ${owner}`,
    )
}

/** Interfaces that will be gone, and with them the routes and settings that go by their names. */
function goneInterfaces(steps: readonly Step[]): Set<string> {
  return new Set(steps.flatMap((step) => (step.kind === 'detach' ? `${step.lab}:${step.ifName}` : [])))
}

/** Who asks for an address gets it before somebody else happens to be given it. */
function creationsFirst(steps: readonly Step[]): Step[] {
  const asks = (step: Step) => {
    const nets = step.kind === 'create lab' ? step.node.nets : step.kind === 'attach' ? [step.net] : []
    return nets.some(({ ips }) => ips.length > 0)
  }
  return [...steps.filter(asks), ...steps.filter((step) => !asks(step))]
}

/** Networks to be made, or made anew because something is different that cannot be changed. */
function planNetworks(wish: Wish, live: Live): NetworkPlan & Plan {
  const { document, made } = wish
  const steps: Step[] = []
  const untouched: string[] = []
  const lists = new Map(live.networks)
  const renewed = new Map<string, string>()
  for (const entry of usedNetworks(document)) {
    const list = live.networks.get(entry.name)
    if (!list) {
      if (entry.external)
        throw new CliError(
          'notFound',
          `no network "${entry.name}", which the file calls external`,
          'ns-net net ls shows all',
        )
      steps.push({ kind: 'create network', network: entry })
      lists.set(entry.name, preview(entry))
      continue
    }
    const difference = document.networks.has(entry.name) ? networkDifference(entry, list) : undefined
    if (difference === undefined || wish.restore) continue
    if (!made.has(entry.name) && !wish.takeOver) {
      untouched.push(`network "${entry.name}" (${difference})`)
      continue
    }
    refuseOtherUsers(entry.name, difference, wish, live)
    renewed.set(entry.name, difference)
    steps.push({ kind: 'delete network', name: entry.name, why: difference })
    steps.push({ kind: 'create network', network: entry })
    lists.set(entry.name, preview(entry))
  }
  const unused = [...made].filter((name) => !document.networks.has(name) && live.networks.has(name))
  const notes = wish.prune ? [] : unused.map((name) => `network ${name} is not in the file; --prune removes it`)
  for (const name of wish.prune ? unused : []) {
    const user = otherUser(name, wish, live)
    if (user) notes.push(`network ${name} is not in the file, and lab ${user.name} uses it`)
    else steps.push({ kind: 'delete network', name, why: 'it is not in the file' })
  }
  return { steps, notes, untouched, lists, renewed }
}

/** Those that the file has, and the default network when a node uses it without saying more. */
function usedNetworks({ networks, nodes }: LabDocument) {
  const usesDefault = [...nodes.values()].some(({ nets }) => nets.some(({ network }) => network === defaultNetwork))
  const implied = usesDefault && !networks.has(defaultNetwork) ? [plainEntry(defaultNetwork)] : []
  return [...networks.values(), ...implied]
}

/** A lab that is attached to the network and neither in the file nor about to go. */
function otherUser(network: string, { document, prune }: Wish, { records }: Live): Lab | undefined {
  const users = [...records.values()].filter((lab) => lab.attachments.some((each) => each.network === network))
  return users.find((lab) => !document.nodes.has(lab.name) && !(prune && belongsTo(lab, document.name)))
}

/** A network is made anew only together with everything that is attached to it. */
function refuseOtherUsers(name: string, difference: string, wish: Wish, live: Live): void {
  const other = otherUser(name, wish, live)
  if (other)
    throw new CliError(
      'conflict',
      `network "${name}" has to be made anew (${difference}), and lab "${other.name}", which is not in the file, uses it`,
      `ns-net detach ${other.name} ${name}`,
    )
}
