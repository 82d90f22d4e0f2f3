import { formatPortMapping, type PortMapping } from '../port-mappings.ts'
import type { BackgroundCommand } from './background.ts'
import type { EndEntry, LinkEntry, NetEntry, NetworkEntry, NodeEntry, RouteEntry, ShapeEntry } from './document.ts'
import { dotted, formatEnd } from './format.ts'

/** One change of a plan. Each is whole or not at all. */
export type Step =
  | { readonly kind: 'create network'; readonly network: NetworkEntry }
  | { readonly kind: 'delete network'; readonly name: string; readonly why: string }
  | { readonly kind: 'create lab'; readonly node: NodeEntry }
  | { readonly kind: 'delete lab'; readonly lab: string; readonly why: string }
  | { readonly kind: 'take over'; readonly lab: string }
  | { readonly kind: 'attach'; readonly lab: string; readonly net: NetEntry; readonly order: readonly string[] }
  | {
      readonly kind: 'detach'
      readonly lab: string
      readonly ifName: string
      readonly network: string
      readonly why: string
    }
  | {
      readonly kind: 'repair'
      readonly lab: string
      readonly net: NetEntry
      readonly order: readonly string[]
      readonly problem: string
    }
  | {
      readonly kind: 'withdraw'
      readonly lab: string
      readonly ifName: string
      readonly ports: readonly PortMapping[]
      /** What stays published. */
      readonly rest: readonly PortMapping[]
    }
  | { readonly kind: 'publish'; readonly lab: string; readonly ifName: string; readonly ports: readonly PortMapping[] }
  | { readonly kind: 'set dns'; readonly lab: string; readonly dns: readonly string[] }
  | { readonly kind: 'set labels'; readonly lab: string; readonly labels: Readonly<Record<string, string>> }
  | {
      readonly kind: 'set sysctl'
      readonly lab: string
      readonly name: string
      readonly value: string
      readonly back?: boolean
    }
  | { readonly kind: 'add route'; readonly lab: string; readonly route: RouteEntry }
  | { readonly kind: 'delete route'; readonly lab: string; readonly route: RouteEntry }
  | { readonly kind: 'add cable'; readonly link: LinkEntry }
  | { readonly kind: 'delete cable'; readonly a: End; readonly b: End }
  | { readonly kind: 'add address'; readonly end: End; readonly address: string }
  | { readonly kind: 'delete address'; readonly end: End; readonly address: string }
  | {
      readonly kind: 'set link'
      readonly end: End
      readonly mtu?: number
      readonly mac?: string
      readonly up?: boolean
    }
  | { readonly kind: 'shape'; readonly end: End; readonly shape: ShapeEntry | undefined }
  | { readonly kind: 'start'; readonly lab: string; readonly command: string }
  | { readonly kind: 'end'; readonly lab: string; readonly command: BackgroundCommand }

type End = Pick<EndEntry, 'place' | 'ifName'>

/** In which order steps are carried out: what frees something before what may want it, what is used before its user. */
const order: readonly Step['kind'][] = [
  'end',
  'withdraw',
  'delete cable',
  'detach',
  'delete lab',
  'delete network',
  'create network',
  'take over',
  'create lab',
  'attach',
  'repair',
  'publish',
  'set dns',
  'set labels',
  'add cable',
  'set link',
  'delete address',
  'add address',
  'set sysctl',
  'delete route',
  'add route',
  'shape',
  'start',
]

/** Sorted by kind; steps of one kind stay in their order. */
export const inOrder = (steps: readonly Step[]): Step[] =>
  [...steps].sort((one, other) => order.indexOf(one.kind) - order.indexOf(other.kind))

/** What a step is about, and what it does, in words. */
export function describeStep(step: Step): {
  readonly action: Step['kind']
  readonly subject: string
  readonly detail: string
} {
  const [subject, detail] = wordsFor(step)
  return { action: step.kind, subject, detail }
}

export function formatStep(step: Step): string {
  const { action, subject, detail } = describeStep(step)
  return [action, subject, detail && ` ${detail}`].filter(Boolean).join(' ')
}

const formatRoute = ({ dst, via, dev }: RouteEntry): string =>
  [dst.endsWith('/0') ? 'default' : dst, via && `via ${via}`, dev && `dev ${dev}`].filter(Boolean).join(' ')

const formatShape = (shape: ShapeEntry | undefined): string =>
  shape
    ? Object.entries(shape)
        .map(([key, value]) => `${key} ${value}`)
        .join(' ')
    : 'none'

const formatPorts = (ports: readonly PortMapping[]): string => ports.map(formatPortMapping).join(' ')

const netWords = ({ network, ifName, ips, mac }: NetEntry): string =>
  [network, ifName, ...ips, mac].filter(Boolean).join(' ')

function wordsFor(step: Step): [subject: string, detail: string] {
  switch (step.kind) {
    case 'create network':
      return [step.network.name, [step.network.driver, ...step.network.subnets].join(' ')]
    case 'delete network':
      return [step.name, step.why]
    case 'create lab':
      return [step.node.name, step.node.nets.map(netWords).join(', ') || 'no network']
    case 'delete lab':
      return [step.lab, step.why]
    case 'take over':
      return [step.lab, 'it was made without a lab file']
    case 'attach':
      return [step.lab, netWords(step.net)]
    case 'detach':
      return [step.lab, `${step.network} ${step.ifName}${step.why && `: ${step.why}`}`]
    case 'repair':
      return [`${step.lab}:${step.net.ifName}`, step.problem]
    case 'withdraw':
    case 'publish':
      return [`${step.lab}:${step.ifName}`, formatPorts(step.ports)]
    case 'set dns':
      return [step.lab, step.dns.join(' ') || "the network's or the host's"]
    case 'set labels':
      return [
        step.lab,
        Object.entries(step.labels)
          .map(([key, value]) => `${key}=${value}`)
          .join(' ') || 'none',
      ]
    case 'set sysctl':
      return [step.lab, `${dotted(step.name)}=${step.value}${step.back ? ', as before' : ''}`]
    case 'add route':
    case 'delete route':
      return [step.lab, formatRoute(step.route)]
    case 'add cable':
      return [formatEnd(step.link.a), formatEnd(step.link.b)]
    case 'delete cable':
      return [formatEnd(step.a), formatEnd(step.b)]
    case 'add address':
    case 'delete address':
      return [formatEnd(step.end), step.address]
    case 'set link': {
      const { mtu, mac, up } = step
      const state = up === undefined ? undefined : up ? 'up' : 'down'
      return [formatEnd(step.end), [mtu && `mtu ${mtu}`, mac && `mac ${mac}`, state].filter(Boolean).join(' ')]
    }
    case 'shape':
      return [formatEnd(step.end), formatShape(step.shape)]
    case 'start':
      return [step.lab, step.command]
    case 'end':
      return [step.lab, step.command.command]
  }
}
