// One attachment and nothing else on the host: time, CPU time and peak memory of each verb.

import { setTimeout } from 'node:timers/promises'
import { Samples } from './figures.mjs'
import { withHosts } from './host.mjs'
import { attachment, bridge, loopback, portmap, ptp } from './networks.mjs'
import { fewer, isAsked } from './options.mjs'

const workloads = {
  loopback: [loopback],
  ptp: [ptp],
  bridge: [bridge],
  'bridge+ipMasq': [{ ...bridge, ipMasq: true }],
  'bridge+portmap': [bridge, portmap(0)],
}

/** portmap 1.1.1 of the reference looks for rules of IPv6 where the container has no such address. */
const faultOfCheck = /could not check ipv6 dnat/

/**
 * Milliseconds before DEL. Nobody deletes what was made a moment ago, when the kernel still waits for what the ADD changed:
 * then whoever takes longer to start has less left to wait for.
 */
const life = 100

/** One life of an attachment; `sample` measures each of its calls. What CHECK says by a fault of its own is returned. */
async function live(plugins, sample) {
  const call = { plugins, attachment: attachment('bench') }
  if (plugins[0].type === 'loopback') await sample({ ...call, command: 'VERSION' })
  const { result } = await sample({ ...call, command: 'ADD' })
  const fault = await sample({ ...call, command: 'CHECK', prevResult: result }).then(
    () => undefined,
    (error) => error.message,
  )
  await setTimeout(life)
  await sample({ ...call, command: 'DEL', prevResult: result })
  if (fault && !faultOfCheck.test(fault)) throw new Error(fault)
  return fault
}

/** Rows of a workload: `latency`, and `memory` with `cpu`, as far as they are wanted. */
async function measure(workload, systems, wanted, options) {
  const plugins = workloads[workload]
  const [time, cpu, memory] = [new Samples(), new Samples(), new Samples()]
  const faults = new Set()
  await withHosts(systems, async (hosts) => {
    const inTurn = async (rounds, sample) => {
      for (let round = 0; round < rounds; round++)
        for (const system of systems) {
          const fault = await live(plugins, (call) => sample(hosts.get(system), system, call))
          if (fault) faults.add(fault)
        }
    }
    for (const host of hosts.values()) await host.addContainer('bench')
    // The first calls make what is shared, and read what they find from disk.
    await inTurn(1, (host, _system, call) => host.time(call))
    await inTurn(options.runs, async (host, { name }, call) => {
      const answer = await host.time(call)
      time.add(answer.ms, call.command, name)
      cpu.add(answer.cpuMs, call.command, name)
      return answer
    })
    if (!wanted.memory) return
    await inTurn(fewer(options, 10), async (host, { name }, call) => {
      const answer = await host.memory(call)
      memory.add(answer.megabytes, call.command, name)
      return answer
    })
  })
  const verbs = plugins[0] === loopback ? ['VERSION', 'ADD', 'CHECK', 'DEL'] : ['ADD', 'CHECK', 'DEL']
  const rows = (kind, unit, samples) =>
    verbs.map((verb) => ({
      kind,
      workload,
      verb,
      unit,
      figures: samples.figures(systems, verb),
      problems: verb === 'CHECK' ? [...faults] : [],
    }))
  return [
    ...(wanted.latency ? rows('latency', 'ms', time) : []),
    ...(wanted.memory ? [...rows('memory', 'MB', memory), ...rows('cpu', 'ms', cpu)] : []),
  ]
}

export function* latency(systems, options, canMeasureMemory) {
  for (const workload of Object.keys(workloads)) {
    const wanted = {
      latency: isAsked(options, 'latency', workload),
      memory: canMeasureMemory && isAsked(options, 'memory', workload),
    }
    if (wanted.latency || wanted.memory)
      yield { title: workload, measure: () => measure(workload, systems, wanted, options) }
  }
}
