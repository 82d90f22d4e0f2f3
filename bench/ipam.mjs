// host-local alone, beside the leases of containers that came before.

import { Samples } from './figures.mjs'
import { withHosts } from './host.mjs'
import { attachment, hostLocal } from './networks.mjs'
import { isAsked } from './options.mjs'

const folder = '/var/lib/cni/networks/bench'

/** Leases as either set writes them, of the n-th addresses from `first` to `last`; then the address given last. */
const fill = (first, last, lastGiven) => `
  mkdir -p ${folder}
  for ((n = ${first}; n <= ${last}; n++)); do printf 'c%s\\r\\neth0' $n >${folder}/10.99.$((n / 256)).$((n % 256)); done
  printf 10.99.${Math.floor(lastGiven / 256)}.${lastGiven % 256} >${folder}/last_reserved_ip.0`

const small = { ...hostLocal, ipam: { type: 'host-local', ranges: [[{ subnet: '10.99.0.0/20' }]] } }
const [gateway, free, broadcast] = [1, 2048, 4095]

const beside = (count) => ({ conf: hostLocal, prepare: count > 0 ? fill(2, count + 1, count + 1) : '' })
const fullButOne = fill(gateway + 1, broadcast - 1, free)

const workloads = {
  'host-local, 0 leases': beside(0),
  'host-local, 1000 leases': beside(1000),
  'host-local, 20000 leases': beside(20_000),
  // The free address is the one given last: the search goes once around.
  'host-local, one address free of a /20': {
    conf: small,
    prepare: `${fullButOne}\nrm ${folder}/10.99.${Math.floor(free / 256)}.${free % 256}`,
  },
  'host-local, no address free of a /20': { conf: small, prepare: fullButOne, refused: true },
}

async function measure(workload, systems, { runs }) {
  const { conf, prepare, refused = false } = workloads[workload]
  const samples = new Samples()
  const call = { plugins: [conf], attachment: attachment('bench', 'eth0', 'none') }
  await withHosts(systems, async (hosts) => {
    for (const host of hosts.values()) if (prepare) await host.script(prepare)
    // The first round is for what a set makes of leases that it has not seen.
    for (let round = 0; round <= runs; round++)
      for (const system of systems)
        for (const command of refused ? ['ADD'] : ['ADD', 'DEL']) {
          const { ms } = await hosts.get(system).time({ ...call, command }, { refused })
          if (round > 0) samples.add(ms, command, system.name)
        }
  })
  return (refused ? ['ADD'] : ['ADD', 'DEL']).map((verb) => ({
    kind: 'ipam',
    workload,
    verb: refused ? `${verb} refused` : verb,
    unit: 'ms',
    figures: samples.figures(systems, verb),
  }))
}

export function* ipam(systems, options) {
  for (const workload of Object.keys(workloads))
    if (isAsked(options, 'ipam', workload))
      yield { title: workload, measure: () => measure(workload, systems, options) }
}
