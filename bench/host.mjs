// A throw-away host in which calls are made and measured: a runner (runner.mjs) under Bun in namespaces of its own.

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { giveUp, root } from '../scripts/install.mjs'
import { enterPrivateHost, findProgram, prologue } from '../scripts/private-host.mjs'

const bun = join(root, 'node_modules/.bin/bun')
const runner = fileURLToPath(new URL('runner.mjs', import.meta.url))
const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const programs = '/run/bench-programs'

/** Programs that every iptables variant is called by. */
const iptablesNames = ['iptables', 'ip6tables'].flatMap((name) => [name, `${name}-save`, `${name}-restore`])

/**
 * Links without IPv6 addresses of their own: hundreds of them that greet each other in one namespace would take more
 * time than what is measured.
 */
const quiet = `for setting in dad_transmits=0 router_solicitations=0 addr_gen_mode=1; do
  echo \${setting#*=} >/proc/sys/net/ipv6/conf/default/\${setting%=*} || true
done`

/** Why a variant of iptables cannot be measured; undefined when it can. */
export const iptablesObstacle = (variant) =>
  findProgram(`xtables-${variant}-multi`) ? undefined : `xtables-${variant}-multi is not installed (Debian: iptables)`

export class Host {
  #child
  #answers
  #path = systemPath
  #name
  #directory

  /** Of a system: its folder of executables, and the variant of iptables that it finds in PATH. */
  static async open({ name, directory, variant }) {
    const host = new Host(name, directory)
    await host.script(quiet)
    if (variant) await host.#useIptables(findProgram(`xtables-${variant}-multi`))
    return host
  }

  constructor(name, directory) {
    const { flags, refusal } = enterPrivateHost()
    if (refusal) giveUp(`bench: ${refusal}`)
    this.#name = name
    this.#directory = directory
    this.#child = spawn('unshare', [...flags, '--', 'sh', prologue, bun, runner], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#answers = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]()
  }

  async #useIptables(program) {
    const links = iptablesNames.map((name) => `ln -s ${program} ${programs}/${name}`)
    await this.script(`mkdir ${programs}; ${links.join('; ')}`)
    this.#path = `${programs}:${systemPath}`
  }

  async #ask(request) {
    this.#child.stdin.write(`${JSON.stringify({ ...request, path: this.#path })}\n`)
    const { value, done } = await this.#answers.next()
    if (done) throw new Error('the process that makes the calls has ended; see above')
    return JSON.parse(value)
  }

  #complete = (call) => ({ ...call, directory: this.#directory, path: this.#path })

  /** What a script of bash prints. */
  async script(text) {
    const { stdout, error } = await this.#ask({ ask: 'script', text })
    if (error) throw new Error(error)
    return stdout
  }

  async addContainer(name) {
    await this.script(`ip netns add ${name}; ip netns exec ${name} bash -c '${quiet}'`)
  }

  /** One verb of a list: what it took. Throws when it fails, or with `refused` when it does not. */
  async time(call, { refused = false } = {}) {
    const answer = await this.#ask({ ask: 'time', ...this.#complete(call) })
    if (refused && !answer.error) throw new Error(`${this.#name}: ${call.command} was to be refused, and was not`)
    if (!refused && answer.error) throw new Error(`${this.#name}: ${answer.error}`)
    return answer
  }

  /** As {@link time}, for the largest process. */
  async memory(call) {
    const answer = await this.#ask({ ask: 'memory', ...this.#complete(call) })
    if (answer.error) throw new Error(`${this.#name}: ${answer.error}`)
    return answer
  }

  /** Many lists at once. What fails is in the outcomes. */
  burst(calls) {
    return this.#ask({ ask: 'burst', chains: calls.map(this.#complete) })
  }

  close() {
    this.#child.kill()
  }
}

/** Opens a host for each system, and closes all of them after the work. */
export async function withHosts(systems, work) {
  const hosts = []
  try {
    for (const system of systems) hosts.push(await Host.open(system))
    return await work(new Map(systems.map((system, i) => [system, hosts[i]])))
  } finally {
    for (const host of hosts) host.close()
  }
}
