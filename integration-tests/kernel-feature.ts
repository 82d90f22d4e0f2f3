import { existsSync } from 'node:fs'
import type { TestContext } from 'vitest'
import { createHost, type Host } from './host.ts'

/** What some kernels are built without, and a command that succeeds where it is there, in a host with the link v0. */
const trials = {
  'bridge vlan filtering': 'ip link add t0 type bridge vlan_filtering 1; bridge -j vlan show dev t0 | grep -q vlans',
  '8021q': 'ip link add t0 link v0 type vlan id 7',
  netem: 'tc qdisc add dev v0 root netem delay 1ms',
  dummy: 'ip link add t0 type dummy',
  vrf: 'ip link add t0 type vrf table 7',
  ipvlan: 'ip link add t0 link v0 type ipvlan',
} as const

/** Skips the calling test, telling the reason, where the kernel has none of one of these. */
export function requireKernel(context: TestContext, ...features: (keyof typeof trials)[]): void {
  for (const feature of features) {
    using host = createHost()
    host.sh('ip link add v0 type veth peer name v1')
    const { status } = host.run(['sh', '-ec', trials[feature]], { expectFailure: 'maybe' })
    if (status !== 0) skip(context, `this kernel has no ${feature}`)
  }
}

/** Skips the calling test where cgroup v2 is not the only hierarchy, or no group can be made in it. */
export function requireUnifiedCgroups(context: TestContext, host: Host): void {
  if (!existsSync('/sys/fs/cgroup/cgroup.controllers')) skip(context, 'cgroup v2 is not the only hierarchy here')
  const directory = '/sys/fs/cgroup/trial'
  const made = host.run(['mkdir', directory], { expectFailure: 'maybe' })
  if (made.status !== 0) skip(context, `no control group can be made here: ${made.stderr}`)
  host.run(['rmdir', directory])
}

function skip(context: TestContext, reason: string): never {
  console.warn(`skipped: ${context.task.name}: ${reason} (npm run test:kernel has it)`)
  return context.skip(reason)
}
