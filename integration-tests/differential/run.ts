import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Container, createHost, type Host, type Place } from '../host.ts'
import { type Call, containersOf, type Datagram, labelOf, type Scenario } from './scenario.ts'
import { type RawState, readState } from './state.ts'

/** What a call of a plugin came to. */
export interface Outcome {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

/** One step and everything that can be seen after it. */
export interface Observation {
  readonly label: string
  readonly outcome?: Outcome
  /** Source address that the receiver of a datagram saw. */
  readonly source?: string
  readonly state: RawState
}

const searchPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const port = 9000

/**
 * Duplicate address detection that has nothing to send and nothing to wait for: whether it is on stays visible in
 * accept_dad and the flags of addresses, and scenarios take no seconds over it.
 */
const quickDetection = `
  echo 0 >/proc/sys/net/ipv6/conf/default/dad_transmits
  echo 0 >/proc/sys/net/ipv6/conf/default/router_solicitation_delay`

/** Puts the plugins of a directory through a scenario, in a host of their own. */
export function run(scenario: Scenario, plugins: string): Observation[] {
  using host = createHost()
  host.sh(quickDetection)
  const outside = scenario.uplink ? host.addUplink() : undefined
  const containers = new Map(containersOf(scenario).map((name) => [name, host.addContainer(name)]))
  for (const container of containers.values()) container.sh(quickDetection)
  const placeOf = (name: string): Place =>
    (name === 'host' ? host : name === 'outside' ? outside : containers.get(name)) ?? fail(`there is no ${name}`)

  const results = new Map<string, object>()
  return scenario.steps.map((step, index): Observation => {
    const label = labelOf(step, index)
    const observed = () => ({ label, state: readState(host, [...containers.keys()]) })
    switch (step.kind) {
      case 'script':
        placeOf(step.place).sh(step.script)
        return observed()
      case 'datagram':
        return { ...observed(), source: sourceOf(step, placeOf(step.from), placeOf(step.to)) }
      case 'call': {
        const key = `${step.container} ${step.ifName}`
        const outcome = invoke(host, plugins, scenario, step, containers.get(step.container), results.get(key))
        if (step.command === 'ADD' && outcome.status === 0) results.set(key, JSON.parse(outcome.stdout))
        return { ...observed(), outcome }
      }
    }
  })
}

function fail(message: string): never {
  throw new Error(message)
}

function invoke(
  host: Host,
  plugins: string,
  { plugin, config }: Scenario,
  step: Call,
  container: Container | undefined,
  lastResult: object | undefined,
): Outcome {
  const prevResult = step.prevResult === 'last' ? lastResult : step.prevResult === 'none' ? undefined : step.prevResult
  const type = step.plugin ?? plugin
  const document = { cniVersion: '1.0.0', name: 'net', type, ...config, ...step.config, prevResult }
  const variables: Record<string, string | undefined> = {
    PATH: searchPath,
    CNI_COMMAND: step.command,
    CNI_CONTAINERID: step.container,
    CNI_NETNS: step.netns ?? container?.path,
    CNI_IFNAME: step.ifName,
    CNI_ARGS: step.args,
    CNI_PATH: plugins,
    ...step.env,
  }
  const assignments = Object.entries(variables).flatMap(([name, value]) => (value === undefined ? [] : `${name}=${value}`))
  return host.run(['env', '-i', ...assignments, join(plugins, type)], {
    input: step.stdin ?? JSON.stringify(document),
    expectFailure: 'maybe',
  })
}

/**
 * Sends until something arrives: the receiver takes a moment to listen. Datagrams that may get no answer, since an
 * address that is not translated has no way back.
 */
function sourceOf({ address, from }: Datagram, sender: Place, receiver: Place): string {
  const six = address.includes(':')
  const directory = mkdtempSync(join(tmpdir(), 'ns-net-differential-'))
  const heard = join(directory, 'heard')
  const listener = receiver.start([
    'socat',
    '-u',
    `UDP${six ? 6 : 4}-RECVFROM:${port},fork,reuseaddr`,
    `SYSTEM:echo $SOCAT_PEERADDR >>${heard}`,
  ])
  try {
    sender.sh(
      `for attempt in $(seq 100); do
         echo hello | socat -u - UDP${six ? 6 : 4}-SENDTO:${six ? `[${address}]` : address}:${port} || true
         sleep 0.02
         [ ! -s ${heard} ] || break
       done`,
    )
    return readFileSync(heard, 'utf8').split('\n')[0]!
  } catch (error) {
    throw new Error(`nothing that ${from} sends arrives at ${address}`, { cause: error })
  } finally {
    listener.kill('SIGKILL')
    rmSync(directory, { recursive: true })
  }
}
