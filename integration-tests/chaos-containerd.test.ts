import { expect, type TestContext, test } from 'vitest'
import { requireTool } from './host.ts'
import { type Chaos, chaosOn } from './runtimes/chaos.ts'
import { type Containerd, pod, startContainerd, unmake } from './runtimes/containerd.ts'
import { firstPage, getPage } from './runtimes/root-filesystem.ts'
import { until } from './runtimes/until.ts'

/*
 * What containerd makes of the faults of the plugin chaos, and what is left after them. It calls plugins as kubelets have
 * it called; the test repeats requests that failed, as a kubelet does. The judges are containerd itself, packets, and the
 * state of the host.
 */

const bridge = {
  type: 'bridge',
  bridge: 'cni0',
  isGateway: true,
  ipMasq: true,
  ipam: { type: 'host-local', subnet: '10.66.0.0/24', routes: [{ dst: '0.0.0.0/0' }] },
}
const portmap = { type: 'portmap', capabilities: { portMappings: true } }
const listOf = (...list: { readonly type: string }[]) => ({ cniVersion: '1.0.0', name: 'lab', plugins: list })
/** The last of the list: all work is done when its ADD comes, and none undone when its DEL does. */
const chained = listOf(bridge, portmap, { type: 'chaos' })
/** In place of the one that makes link, lease and rules, whose DEL can be dropped. */
const standIn = listOf({ type: 'chaos', plugin: bridge } as { type: string }, portmap)

interface ChaoticContainerd extends Containerd, Chaos {
  /**
   * What is there apart from what outlives all pods on purpose: the bridge, and the rules, counts and log of chaos. Where
   * pods are chaos must have forgotten by then.
   */
  remains(): ReturnType<Containerd['state']>
}

const kept = /^\/run\/ns-net\/chaos(\.lock|\/|\/(rules|counts)\.json|\/faults\.jsonl)$/

async function start(context: TestContext, conflist: ReturnType<typeof listOf>): Promise<ChaoticContainerd> {
  for (const tool of ['nft', 'ping', 'pgrep']) requireTool(tool, context)
  const containerd = await startContainerd(context, conflist)
  return {
    ...containerd,
    ...chaosOn(containerd, conflist.plugins),
    remains() {
      containerd.run(['ip', 'link', 'delete', 'cni0'], { expectFailure: 'maybe' })
      const state = containerd.state()
      return { ...state, files: Object.fromEntries(Object.entries(state.files).filter(([path]) => !kept.test(path))) }
    },
  }
}

const web = pod('web', { portMappings: [{ containerPort: 80, hostPort: 8080 }] })
const page = ({ host }: Containerd) => getPage(host, '127.0.0.1', 8080)
const ruleset = ({ host }: Containerd) => host.run(['nft', 'list', 'ruleset']).stdout
const listLeases = (machine: Containerd) =>
  machine.run(['ls', '/var/lib/cni/networks/lab'], { expectFailure: 'maybe' }).stdout.match(/^10\..*$/gm) ?? []
/** Processes of the plugin that run now. */
const runningChaos = (machine: Containerd) =>
  machine.run(['pgrep', '--exact', 'chaos'], { expectFailure: 'maybe' }).stdout.trim()

/** At the end of a test: the pod goes as a kubelet has it go, and with `report --clear` nothing of chaos is left. */
async function finish(machine: ChaoticContainerd, ids: readonly string[], before: object): Promise<void> {
  for (const id of ids) await unmake(machine.cri, id)
  expect(await machine.cri.listPods()).toEqual([])
  expect(machine.remains()).toEqual(before)
  machine.chaos('report', '--clear')
  expect(machine.state()).toEqual(before)
}

test('ADD fails three times: containerd says so each time with nothing left, and then runs the pod', async (context) => {
  using machine = await start(context, chained)
  const before = machine.state()
  machine.chaos('add', '--id=busy', '--namespace=tests', '--pod=web', '--error=11', '--count=3')
  for (let i = 0; i < 3; i++) {
    await expect(machine.cri.runPod(web)).rejects.toThrow(
      /failed to setup network for sandbox .*plugin type="chaos" failed \(add\): injected by chaos; rule "busy"/,
    )
    expect(await machine.cri.listPods()).toEqual([])
    expect(machine.remains()).toEqual(before)
  }
  const id = await machine.cri.runPod(web)
  expect(await firstPage(machine.host, '127.0.0.1', 8080)).toMatchObject({ hostname: 'web' })
  expect(machine.struck()).toEqual(['busy ADD', 'busy ADD', 'busy ADD'])
  expect(machine.chaos('report')).toMatch(/ lab +tests\/web\n/)
  await finish(machine, [id], before)
})

test.for([
  ['as the last of the list', chained, []],
  ['in place of the bridge', standIn, ['--afterwards']],
] as const)(
  'ADD fails when the work is done, %s: the DEL of containerd undoes it',
  async ([, conflist, how], context) => {
    using machine = await start(context, conflist)
    const before = machine.state()
    machine.chaos('add', '--id=late', '--error=999', ...how)
    await expect(machine.cri.runPod(web)).rejects.toThrow('injected by chaos; rule "late"')
    expect(machine.struck()).toEqual(['late ADD'])
    // That the work was done: host-local remembers the address that it gave.
    expect(machine.run(['cat', '/var/lib/cni/networks/lab/last_reserved_ip.0']).stdout.trim()).toBe('10.66.0.2')
    await finish(machine, [], before)
  },
)

test('DEL is dropped: the pod is gone, its lease and its rules stay until GC', async (context) => {
  using machine = await start(context, standIn)
  const before = machine.state()
  machine.chaos('add', '--id=lossy', '--loss=1')
  const id = await machine.cri.runPod(web)
  await firstPage(machine.host, '127.0.0.1', 8080)
  machine.chaos('add', '--id=forgotten', '--verb=del', '--drop')
  await unmake(machine.cri, id)
  expect(await machine.cri.listPods()).toEqual([])
  expect(new Set(machine.struck())).toEqual(new Set(['lossy ADD', 'forgotten DEL']))
  expect(listLeases(machine)).toEqual(['10.66.0.2'])
  expect(ruleset(machine)).toContain('10.66.0.2 comment "lab')
  expect(page(machine)).toBeUndefined()

  machine.collect()
  expect(listLeases(machine)).toEqual([])
  expect(ruleset(machine)).not.toContain('10.66.0.2')
  await finish(machine, [], before)
})

test('DEL fails twice: so does StopPodSandbox, until it is asked again', async (context) => {
  using machine = await start(context, chained)
  const before = machine.state()
  const id = await machine.cri.runPod(web)
  machine.chaos('add', '--id=stuck', '--verb=del', '--error=11', '--count=2')
  for (let i = 0; i < 2; i++) {
    await expect(machine.cri.stopPod(id)).rejects.toThrow(
      /failed to destroy network for sandbox .*plugin type="chaos" failed \(delete\): injected by chaos; rule "stuck"/,
    )
    // libcni goes no further than to the first plugin that fails.
    expect(listLeases(machine)).toEqual(['10.66.0.2'])
    expect(await machine.cri.listPods()).toEqual([id])
  }
  await machine.cri.stopPod(id)
  expect(listLeases(machine)).toEqual([])
  expect(machine.struck()).toEqual(['stuck DEL', 'stuck DEL'])
  await finish(machine, [id], before)
})

test('a result without addresses: containerd refuses the pod and undoes the ADD', async (context) => {
  using machine = await start(context, chained)
  const before = machine.state()
  machine.chaos('add', '--id=liar', '--result=missing-ip')
  await expect(machine.cri.runPod(web)).rejects.toThrow('failed to find network info for sandbox')
  expect(machine.struck()).toEqual(['liar ADD'])
  await finish(machine, [], before)
})

test('a result of a version that nobody knows: containerd refuses the pod and undoes the ADD', async (context) => {
  using machine = await start(context, chained)
  const before = machine.state()
  machine.chaos('add', '--id=liar', '--result=wrong-version')
  await expect(machine.cri.runPod(web)).rejects.toThrow('unsupported CNI result version "9.9.9"')
  expect(machine.struck()).toEqual(['liar ADD'])
  await finish(machine, [], before)
})

test("a result with another pod's address: containerd believes it, and tells it of both pods", async (context) => {
  using machine = await start(context, chained)
  const before = machine.state()
  const first = await machine.cri.runPod(pod('first'))
  machine.chaos('add', '--id=liar', '--pod=second', '--result=duplicate-address')
  const second = await machine.cri.runPod(pod('second'))
  const told = await Promise.all([first, second].map(machine.cri.podStatus))
  expect(told.map(({ addresses }) => addresses)).toEqual([['10.66.0.2'], ['10.66.0.2']])
  // Only what was told is wrong: each has an address of its own and answers there.
  expect(await firstPage(machine.host, '10.66.0.2', 80)).toMatchObject({ hostname: 'first' })
  expect(await firstPage(machine.host, '10.66.0.3', 80)).toMatchObject({ hostname: 'second' })
  await finish(machine, [first, second], before)
})

test('ADD and DEL are late: containerd waits, and the pod is as ever', async (context) => {
  using machine = await start(context, chained)
  const before = machine.state()
  machine.chaos('add', '--id=slow', '--verb=add', '--verb=del', '--delay=1200ms', '--count=2')
  const began = performance.now()
  const id = await machine.cri.runPod(web)
  expect(performance.now() - began).toBeGreaterThan(1200)
  expect(await firstPage(machine.host, '127.0.0.1', 8080)).toMatchObject({ hostname: 'web' })
  const stopped = performance.now()
  await machine.cri.stopPod(id)
  expect(performance.now() - stopped).toBeGreaterThan(1200)
  expect(machine.struck()).toEqual(['slow ADD', 'slow DEL'])
  await finish(machine, [id], before)
})

/** The client's deadline and containerd's answer that it killed the plugin come at the same time. */
const cutShort = /DEADLINE_EXCEEDED|signal: killed/

test('a call hangs: when the deadline of the request is over containerd kills the plugin and undoes the ADD', async (context) => {
  using machine = await start(context, chained)
  const before = machine.state()
  machine.chaos('add', '--id=stuck', '--verb=add', '--verb=del', '--hang', '--count=1')
  const request = expect(machine.cri.runPod(web, 4000)).rejects.toThrow(cutShort)
  await until('the plugin hangs', () => runningChaos(machine) !== '')
  await request
  await until('nobody hangs any more', () => runningChaos(machine) === '')
  await until(
    'the pod is gone',
    async () => (await machine.cri.listPods()).length === 0 && listLeases(machine).length === 0,
  )
  expect(machine.remains()).toEqual(before)

  const id = await machine.cri.runPod(web)
  machine.chaos('add', '--id=end', '--verb=del', '--hang', '--count=1')
  const end = expect(machine.cri.stopPod(id, 4000)).rejects.toThrow(cutShort)
  await until('the plugin hangs', () => runningChaos(machine) !== '')
  await end
  await until('nobody hangs any more', () => runningChaos(machine) === '')
  expect(listLeases(machine)).toHaveLength(1) // it is a DEL again that ends it
  expect(machine.struck()).toEqual(['stuck ADD', 'end DEL'])
  await finish(machine, [id], before)
})

/** How many of so many pings come back, each as large as asked. */
function received(machine: Containerd, to: string, count: number, size = 56, from: readonly string[] = []): number {
  const command = [...from, 'ping', '-q', `-c${count}`, '-i0.01', '-W1', `-s${size}`, to]
  return Number(/(\d+) received/.exec(machine.run(command, { expectFailure: 'maybe' }).stdout)![1])
}

test('loss, rate and partition concern the pods that a rule names, and no others', async (context) => {
  using machine = await start(context, chained)
  const before = machine.state()
  const { cri } = machine
  const inShop = (name: string) => ({ ...pod(name), metadata: { name, uid: `shop-${name}`, namespace: 'shop' } })
  machine.chaos('add', '--id=lossy', '--namespace=tests', '--pod=l?ssy', '--loss=50')
  machine.chaos('add', '--id=slow', '--namespace=tests', '--pod=slow', '--rate=64kbit')
  machine.chaos('add', '--id=split', '--namespace=tests', '--pod=web', '--partition=tests/db')
  const pods = [
    pod('db'),
    inShop('db'),
    pod('lossy'),
    inShop('lossy'),
    pod('slow'),
    inShop('slow'),
    pod('web'),
    inShop('web'),
  ]
  const ids: string[] = []
  for (const each of pods) ids.push(await cri.runPod(each))
  const states = await Promise.all(ids.map(cri.podStatus))
  const addresses = states.map(({ addresses: [first] }) => first!)
  const enter = states.map(({ netns }) => ['nsenter', `--net=${netns}`])
  const [db, otherDb, lossy, otherLossy, slow, otherSlow, theWeb, otherWeb] = [0, 1, 2, 3, 4, 5, 6, 7] as const
  expect(machine.struck()).toEqual(['lossy ADD', 'slow ADD', 'split ADD'])

  // ARP gets lost as well, and before it has got through all else would.
  await until('the lossy pod is known', () => received(machine, addresses[lossy]!, 1) === 1)
  const lost = 100 - received(machine, addresses[lossy]!, 100)
  expect(lost).toBeGreaterThan(20)
  expect(lost).toBeLessThan(80)
  expect(received(machine, addresses[otherLossy]!, 100)).toBe(100)

  expect(received(machine, addresses[slow]!, 40, 1400)).toBeLessThan(30)
  expect(received(machine, addresses[otherSlow]!, 40, 1400)).toBe(40)

  const reach = (from: number, to: number) => received(machine, addresses[to]!, 2, 56, enter[from])
  expect([reach(theWeb, db), reach(db, theWeb)]).toEqual([0, 0])
  for (const [from, to] of [
    [theWeb, otherDb],
    [otherWeb, db],
    [db, otherWeb],
    [theWeb, otherWeb],
    [otherDb, db],
  ] as const)
    expect(reach(from, to), `${from} to ${to}`).toBe(2)

  // A pod that gets the address of one that is gone can be reached by those that were cut off from that.
  await unmake(cri, ids[theWeb]!)
  machine.chaos('rm', 'split')
  expect(ruleset(machine)).not.toContain(`ip daddr ${addresses[theWeb]} drop`)
  await finish(
    machine,
    ids.filter((id) => id !== ids[theWeb]),
    before,
  )
})
