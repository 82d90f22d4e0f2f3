// Many at once on one bridge: how many a second, and whether all of them come and go.

import { Samples } from './figures.mjs'
import { withHosts } from './host.mjs'
import { attachment, bridge, portmap, reference } from './networks.mjs'
import { fewer, isAsked } from './options.mjs'

const sizes = [1, 4, 16, 64]
const workloads = {
  bridge: () => [bridge],
  'bridge+portmap': (n) => [bridge, portmap(n)],
}

/** Links, leases and lines of rules: as many after a burst as before. */
const remains = `
  ip -o link show type veth | wc -l
  find /var/lib/cni/networks/bench -name '10.99.*' | wc -l
  nft list ruleset | wc -l`

const words = (text) => text.trim().split(/\s+/).join(' ')

/** One burst of ADDs and one of DELs; what went wrong, in words. */
async function round(host, workload, size, sample) {
  const calls = Array.from({ length: size }, (_, n) => ({
    plugins: workloads[workload](n),
    attachment: attachment(`c${n}`),
  }))
  const problems = []
  const before = await host.script(remains)
  const burst = async (command, prevResults) => {
    const { ms, outcomes } = await host.burst(
      calls.map((call, n) => ({ ...call, command, prevResult: prevResults[n] })),
    )
    sample(command, (1000 * size) / ms)
    const errors = outcomes.flatMap(({ error }) => error ?? [])
    if (errors.length > 0) problems.push(`${errors.length} of ${size} failed in ${command}, the first: ${errors[0]}`)
    return outcomes
  }
  const results = (await burst('ADD', [])).map(({ result }) => result)
  const addresses = results.flatMap((result) => result?.ips.map(({ address }) => address) ?? [])
  if (new Set(addresses).size < addresses.length)
    problems.push(`one address for two containers: ${addresses.join(' ')}`)
  await burst('DEL', results)
  const after = await host.script(remains)
  if (after !== before) problems.push(`links, leases, lines of rules: ${words(after)}, before it ${words(before)}`)
  return problems
}

async function measure(workload, systems, options, fail) {
  const samples = new Samples()
  const problems = new Map()
  const sizesOf = (system) =>
    system === reference && workload.includes('portmap') && !options.full ? sizes.filter((size) => size <= 16) : sizes
  await withHosts(systems, async (hosts) => {
    for (const host of hosts.values()) for (let n = 0; n < sizes.at(-1); n++) await host.addContainer(`c${n}`)
    for (const system of systems) await round(hosts.get(system), workload, 1, () => {}) // makes what is shared
    for (const size of sizes)
      for (let n = 0; n < fewer(options, 10); n++)
        for (const system of systems.filter((each) => sizesOf(each).includes(size))) {
          const sample = (command, perSecond) => samples.add(perSecond, command, size, system.name)
          const found = await round(hosts.get(system), workload, size, sample)
          for (const problem of found) {
            problems.set(size, [...(problems.get(size) ?? []), `${system.name}: ${problem.slice(0, 300)}`])
            if (system !== reference) fail(`${workload}, ${size} at once: ${problem}`)
          }
        }
  })
  return ['ADD', 'DEL'].flatMap((verb) =>
    sizes.map((at) => ({
      kind: 'burst',
      workload,
      verb,
      at,
      unit: 'per s',
      figures: samples.figures(systems, verb, at),
      problems: verb === 'ADD' ? problems.get(at) : [],
    })),
  )
}

export function* burst(systems, options, fail) {
  for (const workload of Object.keys(workloads))
    if (isAsked(options, 'burst', workload))
      yield { title: workload, measure: () => measure(workload, systems, options, fail) }
}
