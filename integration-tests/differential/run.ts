import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createHost, type Host, type Place, referencePlugins } from '../host.ts'
import { type Call, containersOf, type Datagram, labelOf, type Scenario, type Step } from './scenario.ts'
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
export async function run(scenario: Scenario, plugins: string): Promise<Observation[]> {
  using host = createHost()
  await execute(host, ['sh', '-ec', quickDetection])
  return await carryOut(scenario, plugins, host)
}

/**
 * In a host that others used before and others use after. That is for plugins which touch nothing on the host but
 * files: the state of its kernel is looked at after the last step only.
 */
export async function runIn(host: Host, scenario: Scenario, plugins: string): Promise<Observation[]> {
  const observations = await carryOut(scenario, plugins, host, { hostRarely: true })
  const cleanUp = `
    for name in $(ls /run/netns 2>/dev/null); do ip netns delete $name 2>/dev/null || rm /run/netns/$name; done
    rm -rf /var/lib/cni/*`
  await execute(host, ['sh', '-ec', cleanUp])
  return observations
}

async function carryOut(
  scenario: Scenario,
  plugins: string,
  host: Host,
  { hostRarely = false }: { hostRarely?: boolean } = {},
): Promise<Observation[]> {
  const outside = scenario.uplink ? connect(host) : undefined
  const containers = containersOf(scenario)
  for (const name of containers)
    await execute(host, [
      'sh',
      '-ec',
      `ip netns add ${name}; nsenter --net=/run/netns/${name} sh -ec "$1"`,
      'sh',
      quickDetection,
    ])

  const results = new Map<string, object>()
  const carryOutStep = async (step: Step): Promise<Pick<Observation, 'outcome' | 'source'>> => {
    if (step.kind === 'script') {
      const { status, stdout, stderr } = await execute(host, [...enter(step.place), 'sh', '-ec', step.script])
      if (status !== 0) throw new Error(`${step.script}: exit ${status}: ${stdout}${stderr}`)
      return {}
    }
    if (step.kind === 'datagram') return { source: await sourceOf(host, step, outside) }
    const key = `${step.container} ${step.ifName}`
    const outcome = await invoke(host, plugins, scenario, step, results.get(key))
    if (step.command === 'ADD' && outcome.status === 0 && outcome.stdout) results.set(key, JSON.parse(outcome.stdout))
    return { outcome }
  }

  const observations: Observation[] = []
  for (const [index, step] of scenario.steps.entries()) {
    const done = await carryOutStep(step)
    const withHost = !hostRarely || index === scenario.steps.length - 1
    const state = await readState(host, [...(withHost ? ['host'] : []), ...containers], execute)
    observations.push({ label: labelOf(step, index), ...done, state })
  }
  return observations
}

/** What to put before a command that is to run in a container; a host's own commands need nothing. */
const enter = (place: string) => (place === 'host' ? [] : ['nsenter', `--net=/run/netns/${place}`])

/**
 * Runs a command in a host. Unlike the host's own methods it waits without blocking, so that the two sets of plugins
 * are at work at the same time.
 */
export function execute(
  { pid }: Host,
  command: readonly string[],
  { input = '', env = {} }: { input?: string; env?: Readonly<Record<string, string>> } = {},
): Promise<Outcome> {
  const options = { env: { PATH: searchPath, ...env }, timeout: 30_000, maxBuffer: 64 * 1024 * 1024 }
  return new Promise((resolve, reject) => {
    const child = execFile(
      'nsenter',
      [`--target=${pid}`, '--net', '--mount', '--', ...command],
      options,
      (error, stdout, stderr) => {
        if (error && typeof error.code !== 'number') reject(new Error(`${command.join(' ')}: ${error.message}`))
        else resolve({ status: Number(error?.code ?? 0), stdout, stderr })
      },
    )
    child.stdin!.on('error', () => {}) // a plugin that ends before it has read everything
    child.stdin!.end(input)
  })
}

/** The kernel gives the uplink its link-local address some time after the carrier; to forward, the host needs one. */
function connect(host: Host): Place {
  const outside = host.addUplink()
  host.run(['ip', 'address', 'add', 'fe80::1/64', 'dev', 'eth0', 'nodad'])
  return outside
}

function fail(message: string): never {
  throw new Error(message)
}

function invoke(
  host: Host,
  plugins: string,
  { plugin, config }: Scenario,
  step: Call,
  lastResult: object | undefined,
): Promise<Outcome> {
  const prevResult = step.prevResult === 'last' ? lastResult : step.prevResult === 'none' ? undefined : step.prevResult
  const type = step.plugin ?? plugin
  const directory = step.by === 'reference' ? referencePlugins : plugins
  const document = { cniVersion: '1.0.0', name: 'net', type, ...config, ...step.config, prevResult }
  const variables: Record<string, string | undefined> = {
    PATH: searchPath,
    CNI_COMMAND: step.command,
    CNI_CONTAINERID: step.container,
    CNI_NETNS: step.netns ?? `/run/netns/${step.container}`,
    CNI_IFNAME: step.ifName,
    CNI_ARGS: step.args,
    CNI_PATH: directory,
    ...step.env,
  }
  const assignments = Object.entries(variables).flatMap(([name, value]) =>
    value === undefined ? [] : `${name}=${value}`,
  )
  return execute(host, ['env', '-i', ...assignments, join(directory, type)], {
    input: step.stdin ?? JSON.stringify(document),
  })
}

/**
 * Sends until something arrives: the receiver takes a moment to listen. Datagrams that may get no answer, since an
 * address that is not translated has no way back.
 */
async function sourceOf(host: Host, { from, to, address, lost }: Datagram, outside?: Place): Promise<string> {
  const family = address.includes(':') ? 6 : 4
  const target = family === 6 ? `[${address}]` : address
  const directory = mkdtempSync(join(tmpdir(), 'ns-net-differential-'))
  const heard = join(directory, 'heard')
  const receiver = to === 'outside' ? outside! : host
  const listener = receiver.start([
    ...(to === 'outside' ? [] : enter(to)),
    'socat',
    '-u',
    `UDP${family}-RECVFROM:${port},fork,reuseaddr`,
    `SYSTEM:echo $SOCAT_PEERADDR >>${heard}`,
  ])
  const send = `
    for attempt in $(seq ${lost ? 20 : 100}); do
      echo hello | socat -u - UDP${family}-SENDTO:${target}:${port} 2>/dev/null || true
      sleep 0.02
      [ ! -s ${heard} ] || break
    done`
  try {
    await execute(host, [...enter(from), 'sh', '-ec', send])
    if (existsSync(heard)) return readFileSync(heard, 'utf8').split('\n')[0]!
    return lost ? 'nothing arrives' : fail(`nothing that ${from} sends arrives at ${address}`)
  } finally {
    listener.kill('SIGKILL')
    rmSync(directory, { recursive: true, force: true })
  }
}
