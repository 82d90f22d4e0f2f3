// What the next attachment costs beside many others of its network.

import { Samples } from './figures.mjs'
import { iptablesObstacle, withHosts } from './host.mjs'
import { attachment, bridge, portmap, reference } from './networks.mjs'
import { fewer, isAsked } from './options.mjs'

const workload = 'bridge+ipMasq+portmap'
const sizes = [10, 100, 300, 1000]

/** The system by one backend, with the variant of iptables that it finds. */
const by = (system, backend, variant) => ({
  ...system,
  name: `${system.name}, ${variant ? `iptables-${variant}` : backend}`,
  variant,
  bridge: { ...bridge, ipMasq: true, ...(backend && { ipMasqBackend: backend }) },
  portmap: (n) => ({ ...portmap(n), ...(backend && { backend }) }),
})

function variants(systems, { full }) {
  const [ours] = systems
  const reach = full ? sizes.at(-1) : 300
  return [
    { ...by(ours, 'nftables'), reach: sizes.at(-1) },
    { ...by(ours, 'iptables', 'nft'), reach: sizes.at(-1) },
    { ...by(ours, 'iptables', 'legacy'), reach: sizes.at(-1) },
    ...(systems.includes(reference) ? [{ ...by(reference, undefined, 'nft'), reach }] : []),
  ]
}

/** All of them in one namespace: only the one that is measured has its own. */
async function grow(host, system, from, to) {
  for (let n = from; n <= to; n++) {
    const plugins = [system.bridge, system.portmap(n)]
    await host.time({ plugins, attachment: attachment(`c${n}`, `eth${n}`, 'all'), command: 'ADD' })
  }
}

async function measure(systems, options, note) {
  const samples = new Samples()
  await withHosts(systems, async (hosts) => {
    for (const host of hosts.values()) for (const name of ['all', 'bench']) await host.addContainer(name)
    for (const [i, size] of sizes.entries()) {
      const measured = systems.filter(({ reach }) => reach >= size)
      const before = sizes[i - 1] ?? 0
      note(`${size} attachments each: ${measured.map(({ name }) => name).join('; ')}`)
      await Promise.all(measured.map((system) => grow(hosts.get(system), system, before + 1, size)))
      for (let round = 0; round < fewer(options, 3); round++)
        for (const system of measured) {
          const host = hosts.get(system)
          const call = { plugins: [system.bridge, system.portmap(0)], attachment: attachment('bench') }
          const added = await host.time({ ...call, command: 'ADD' })
          const deleted = await host.time({ ...call, command: 'DEL', prevResult: added.result })
          samples.add(added.ms, 'ADD', size, system.name)
          samples.add(deleted.ms, 'DEL', size, system.name)
        }
    }
  })
  return ['ADD', 'DEL'].flatMap((verb) =>
    sizes.map((at) => ({
      kind: 'scale',
      workload,
      verb,
      at,
      unit: 'ms',
      figures: samples.figures(systems, verb, at),
    })),
  )
}

export function* scale(systems, options, note) {
  if (!isAsked(options, 'scale', workload)) return
  const usable = variants(systems, options).filter(({ name, variant }) => {
    const obstacle = variant && iptablesObstacle(variant)
    if (obstacle) note(`skipped: ${name}: ${obstacle}`)
    return !obstacle
  })
  yield { title: workload, measure: () => measure(usable, options, note) }
}
