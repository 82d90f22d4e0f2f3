/** What both sets of plugins are put through: a host, a configuration, and steps. */
export interface Scenario {
  readonly name: string
  /** Name of the executable. */
  readonly plugin: string
  /** Added to `{ cniVersion: '1.0.0', name: 'net', type: plugin }`. */
  readonly config: object
  readonly steps: readonly Step[]
  /** The host is connected to an outside, for {@link sends} to it. */
  readonly uplink?: boolean
  /** Programs that the steps or the reference need besides ip and nsenter. */
  readonly needs?: readonly string[]
}

/** One call of a plugin. Everything but `command` has the default that {@link call} gives it. */
export interface Call {
  readonly kind: 'call'
  readonly command: string
  readonly container: string
  readonly ifName: string
  /** CNI_NETNS; the path of the container's namespace unless told. */
  readonly netns?: string
  readonly args?: string
  /** The reference carries out this call on both sides: what one left, the other must be able to take up. */
  readonly by?: 'reference'
  /** Replaces the scenario's plugin for this call. */
  readonly plugin?: string
  /** Merged into the scenario's configuration. */
  readonly config?: object
  /** `last` adds what the last ADD of this container and interface printed, as runtimes do for CHECK and DEL. */
  readonly prevResult: 'last' | 'none' | object
  /** Replaces the configuration on stdin. */
  readonly stdin?: string
  /** Replaces variables; undefined takes one away. */
  readonly env?: Readonly<Record<string, string | undefined>>
}

export interface Script {
  readonly kind: 'script'
  /** A container, or `host`. */
  readonly place: string
  readonly script: string
}

/** One UDP datagram: what source address does the receiver see? */
export interface Datagram {
  readonly kind: 'datagram'
  readonly from: string
  /** A container, or `outside`. */
  readonly to: string
  readonly address: string
  /** It should not arrive. */
  readonly lost?: boolean
}

export type Step = Call | Script | Datagram

type CallOptions = Partial<Omit<Call, 'kind' | 'command'>>

const call = (command: string, options: CallOptions, prevResult: Call['prevResult']): Call => ({
  kind: 'call',
  command,
  container: 'c1',
  ifName: 'eth0',
  prevResult,
  ...options,
})

export const add = (options: CallOptions = {}): Call => call('ADD', options, 'none')
export const check = (options: CallOptions = {}): Call => call('CHECK', options, 'last')
export const del = (options: CallOptions = {}): Call => call('DEL', options, 'last')
export const verb = (command: string, options: CallOptions = {}): Call => call(command, options, 'none')

export const onHost = (script: string): Script => ({ kind: 'script', place: 'host', script })
export const inside = (container: string, script: string): Script => ({ kind: 'script', place: container, script })

/** Takes the last name of c1's namespace away. The kernel deletes what is in it some time later. */
export const endNamespace = (script: string): Script =>
  onHost(`${script}
    for attempt in $(seq 300); do
      [ -n "$(ip -o link show type veth)" ] || exit 0
      sleep 0.01
    done`)

export const outside4 = '192.0.2.2'
export const outside6 = '2001:db8::2'

export const sends = (from: string, address: string, to = 'outside', options: { lost?: boolean } = {}): Datagram => ({
  kind: 'datagram',
  from,
  to,
  address,
  ...options,
})

/** What a step is called in reports. */
export function labelOf(step: Step, index: number): string {
  const what =
    step.kind === 'call'
      ? `${step.command} ${step.container}${step.ifName === 'eth0' ? '' : ` ${step.ifName}`}`
      : step.kind === 'script'
        ? `${step.place}: ${step.script.split('\n')[0]}`
        : `${step.from} sends to ${step.address}`
  return `${index + 1} ${what}`
}

/** The containers that the steps need; one whose calls all name another namespace is none. */
export function containersOf({ steps }: Scenario): string[] {
  const named = steps.flatMap((step) => {
    if (step.kind === 'call') return step.netns === undefined ? [step.container] : []
    return step.kind === 'script' ? [step.place] : [step.from, step.to]
  })
  return [...new Set(named)].filter((name) => name !== 'host' && name !== 'outside')
}
