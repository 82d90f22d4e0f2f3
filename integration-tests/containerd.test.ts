import { expect, test } from 'vitest'
import { pod, podPlace, startContainerd, unmake, untilEnded } from './runtimes/containerd.ts'
import type { Machine } from './runtimes/machine.ts'
import { firstPage, getPage, serve } from './runtimes/root-filesystem.ts'

/*
 * Pods of containerd by our conflist, asked for as a kubelet asks for them. containerd calls loopback first, writes the
 * keys of runtimeConfig with capitals, and repeats DEL without namespace and prevResult at every Stop and Remove.
 */

const conflist = {
  cniVersion: '1.0.0',
  name: 'pods',
  plugins: [
    {
      type: 'bridge',
      bridge: 'cni0',
      isGateway: true,
      ipMasq: true,
      hairpinMode: true,
      ipam: {
        type: 'host-local',
        ranges: [[{ subnet: '10.78.0.0/24' }], [{ subnet: 'fd00:78::/64' }]],
        routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
      },
    },
    { type: 'portmap', capabilities: { portMappings: true } },
    { type: 'firewall' },
    { type: 'bandwidth', capabilities: { bandwidth: true } },
    { type: 'tuning', sysctl: { 'net.core.somaxconn': '500' } },
  ],
}

/** What the first pod makes for all: the bridge. */
function removeBridge(machine: Machine): void {
  machine.run(['ip', 'link', 'delete', 'cni0'])
}

test('a pod with a hostPort is reached from the host and from outside, and leaves nothing', async (context) => {
  using machine = await startContainerd(context, conflist)
  const { cri, host, outside } = machine
  await serve(outside, context)
  const before = machine.state()
  const id = await cri.runPod(pod('web', { portMappings: [{ containerPort: 80, hostPort: 8080 }] }))

  const status = await cri.podStatus(id)
  expect(status).toMatchObject({ state: 'SANDBOX_READY', addresses: ['10.78.0.2', 'fd00:78::2'] })
  await firstPage(outside, '192.0.2.1', 8080)
  expect(getPage(outside, '192.0.2.1', 8080)).toEqual({ hostname: 'web', client: '192.0.2.2' })
  expect(await firstPage(outside, '2001:db8::1', 8080)).toEqual({ hostname: 'web', client: '2001:db8::2' })
  for (const address of ['127.0.0.1', '192.0.2.1', '2001:db8::1'])
    expect(getPage(host, address, 8080)).toMatchObject({ hostname: 'web' })

  const inPod = podPlace(machine, status)
  expect(getPage(inPod, '192.0.2.2', 80)).toMatchObject({ client: '192.0.2.1' })
  expect(getPage(inPod, '2001:db8::2', 80)).toMatchObject({ client: '2001:db8::1' })
  expect(getPage(inPod, '127.0.0.1', 80)).toMatchObject({ hostname: 'web' }) // by the loopback that containerd asks for
  expect(getPage(inPod, '192.0.2.1', 8080)).toMatchObject({ hostname: 'web' })
  expect(inPod.run(['cat', '/proc/sys/net/core/somaxconn']).stdout).toBe('500\n')

  await unmake(cri, id)
  expect(await cri.listPods()).toEqual([])
  expect(getPage(host, '127.0.0.1', 8080)).toBeUndefined()
  removeBridge(machine)
  expect(machine.state()).toEqual(before)
})

test('10 pods at once', async (context) => {
  using machine = await startContainerd(context, conflist)
  const { cri, outside } = machine
  const before = machine.state()
  const names = Array.from({ length: 10 }, (_, i) => `web${i}`)
  const mappings = (i: number) => [{ containerPort: 80, hostPort: 8080 + i }]
  const ids = await Promise.all(names.map((name, i) => cri.runPod(pod(name, { portMappings: mappings(i) }))))

  const states = await Promise.all(ids.map(cri.podStatus))
  expect(new Set(states.flatMap(({ addresses }) => addresses)).size).toBe(20)
  for (const [i, name] of names.entries())
    expect(await firstPage(outside, '192.0.2.1', 8080 + i)).toMatchObject({ hostname: name })

  await Promise.all(ids.map((id) => unmake(cri, id)))
  removeBridge(machine)
  expect(machine.state()).toEqual(before)
})

test('a hostPort on one address only, and taken by another pod', async (context) => {
  using machine = await startContainerd(context, conflist)
  const { cri, host, outside } = machine
  const before = machine.state()
  const portMappings = [{ containerPort: 80, hostPort: 8080, hostIp: '192.0.2.1' }]
  const id = await cri.runPod(pod('web', { portMappings }))
  await firstPage(outside, '192.0.2.1', 8080)
  expect(getPage(host, '127.0.0.1', 8080)).toBeUndefined()

  const withWeb = machine.state()
  await expect(cri.runPod(pod('late', { portMappings }))).rejects.toThrow(new RegExp(`8080.*${id}`))
  expect(await cri.listPods()).toEqual([id])
  expect(machine.state()).toEqual(withWeb)
  expect(getPage(outside, '192.0.2.1', 8080)).toMatchObject({ hostname: 'web' })

  await unmake(cri, id)
  removeBridge(machine)
  expect(machine.state()).toEqual(before)
})

test('the annotations that limit the bandwidth', async (context) => {
  using machine = await startContainerd(context, conflist)
  const { cri, host } = machine
  const before = machine.state()
  const annotations = { 'kubernetes.io/ingress-bandwidth': '10M', 'kubernetes.io/egress-bandwidth': '20M' }
  const id = await cri.runPod(pod('web', { annotations }))

  const queues = host.json(['tc', '-json', 'qdisc', 'show'])
  const rates = queues
    .filter(({ kind }: { kind: string }) => kind === 'tbf')
    .map(({ options }: { options: { rate: number } }) => options.rate)
  expect(rates.sort()).toEqual([10e6 / 8, 20e6 / 8])

  await unmake(cri, id)
  removeBridge(machine)
  expect(machine.state()).toEqual(before)
})

test('containerd is killed, and so is the process of a pod: Stop and Remove unmake it all the same', async (context) => {
  using machine = await startContainerd(context, conflist)
  const { cri, outside } = machine
  const before = machine.state()
  const running = await cri.runPod(pod('running', { portMappings: [{ containerPort: 80, hostPort: 8080 }] }))
  const ended = await cri.runPod(pod('ended', { portMappings: [{ containerPort: 80, hostPort: 8081 }] }))
  machine.run(['kill', '-9', String((await cri.podStatus(ended)).pid)])
  await machine.restart()

  expect(await firstPage(outside, '192.0.2.1', 8080)).toMatchObject({ hostname: 'running' })
  await untilEnded(cri, ended)
  for (const id of [running, ended]) await unmake(cri, id)
  removeBridge(machine)
  expect(machine.state()).toEqual(before)
})

test('a pod whose network namespace is gone', async (context) => {
  using machine = await startContainerd(context, conflist)
  const { cri } = machine
  const before = machine.state()
  const id = await cri.runPod(pod('web', { portMappings: [{ containerPort: 80, hostPort: 8080 }] }))
  const { netns, pid } = await cri.podStatus(id)
  machine.run(['kill', '-9', String(pid)])
  await untilEnded(cri, id)
  machine.sh(`umount ${netns}; rm ${netns}`)
  await unmake(cri, id)
  removeBridge(machine)
  expect(machine.state()).toEqual(before)
})
