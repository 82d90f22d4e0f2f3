import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { expect, type TestContext, test } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { executables, type Place, requireTool } from '../host.ts'
import { inside } from '../inside.ts'
import { crunWithoutGroups } from '../runtimes/containerd.ts'
import { connectCri } from '../runtimes/cri.ts'
import { createMachine, type Machine } from '../runtimes/machine.ts'
import { until } from '../runtimes/until.ts'
import { type ApiServer, createApiServer } from './api-server.ts'
import { serveNames } from './name-server.ts'
import { agentRoutes, answers, controlPlane, eventually } from './nodes.ts'

/*
 * The image that `npm run image` makes, and a container of it as the manifest's DaemonSet asks for one: containerd has the
 * image, and runs it with the rights, folders and variables of the manifest and no others.
 */

const root = new URL('../..', import.meta.url).pathname
const archive = '/run/ns-net.tar'
const content = '/run/content'
const socket = '/run/containerd/containerd.sock'
/** Stands for /opt/cni/bin of the node; the machine's own is not ours. */
const binDirectory = '/run/cni-bin'
const serviceAccount = '/run/service-account'
const conflistPath = '/etc/cni/net.d/10-ns-net.conflist'

/** Of the machine that the tests run on: nothing of it is used, and nothing stays in it. */
const storage = '[storage]\ndriver = "vfs"\nrunroot = "/run/buildah/run"\ngraphroot = "/run/buildah/root"\n'

function makeImage({ host, sh }: Machine): void {
  writeFileSync(host.file('/run/storage.conf'), storage)
  const env = { CONTAINERS_STORAGE_CONF: '/run/storage.conf', TMPDIR: '/run' }
  host.run([process.execPath, `${root}scripts/image.mjs`, archive], { env, timeout: 300_000 })
  sh(`rm -rf /run/buildah; mkdir ${content}; tar --extract --file ${archive} --directory ${content}`)
}

/** crun leaves cgroups alone: the tests may not have a tree of their own. */
const configuration = `
version = 2
root = "/run/containerd-content"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "${socket}"
[plugins."io.containerd.grpc.v1.cri"]
disable_tcp_service = true
disable_cgroup = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
`

/** The namespace and the snapshotter as a kubelet's containerd and `kind load image-archive` have them. */
const ctr = (...command: string[]) => ['ctr', '--namespace=k8s.io', ...command]

async function startContainerd(machine: Machine): Promise<void> {
  machine.run(['tee', '/run/crun'], { input: crunWithoutGroups })
  machine.run(['chmod', '755', '/run/crun'])
  machine.run(['tee', '/etc/containerd/config.toml'], { input: configuration })
  machine.start(['sh', '-c', 'exec containerd >/run/containerd.log 2>&1'])
  await until('containerd listens', () => machine.run(['ctr', 'version'], { expectFailure: 'maybe' }).status === 0)
  machine.run(ctr('image', 'import', '--all-platforms', '--digests', '--snapshotter=native', archive))
}

/** A node, with the image built and imported. The API server is on the node itself, as on kind's control plane. */
async function createNode(context: TestContext) {
  const programs = ['buildah', 'ldd', 'containerd', 'containerd-shim-runc-v2', 'ctr', 'crun', 'openssl', 'curl', 'nft']
  const machine = await createMachine(context, programs)
  const api = createApiServer([controlPlane])
  const names = inside(machine.host, () => serveNames('192.0.2.1'))
  names.names.set(controlPlane, ['192.0.2.1'])
  const node = {
    ...machine,
    api,
    names,
    [Symbol.dispose]() {
      api[Symbol.dispose]()
      names[Symbol.dispose]()
      machine[Symbol.dispose]()
    },
  }
  try {
    makeImage(machine)
    await startContainerd(machine)
    inside(machine.host, () => api.listen(6443))
    prepareNode(machine, api)
    return node
  } catch (error) {
    node[Symbol.dispose]()
    throw error
  }
}

/** What the kubelet does before it starts a container of the DaemonSet. */
function prepareNode(machine: Machine, api: ApiServer): void {
  const { host } = machine
  for (const folder of [binDirectory, serviceAccount, '/run/ns-net']) mkdirSync(host.file(folder), { recursive: true })
  writeFileSync(host.file(`${serviceAccount}/ca.crt`), api.ca)
  writeFileSync(host.file(`${serviceAccount}/token`), 'first\n')
  // Of the node, as kind makes them; for a container with host network ctr mounts both, as the kubelet does.
  machine.run(['tee', '/etc/resolv.conf'], { input: 'nameserver 192.0.2.1\n' })
  machine.run(['tee', '/etc/hosts'], { input: '127.0.0.1 localhost\n192.0.2.77 neighbour\n' })
  // systemd makes all mounts of a node shared; namespaces that come later are then seen in containers as well.
  machine.sh('mkdir -p /run/netns; mount --bind /run/netns /run/netns; mount --make-shared /run/netns')
}

interface Mount {
  readonly name: string
  readonly mountPath: string
  readonly mountPropagation?: string
}

interface Variable {
  readonly name: string
  readonly value?: string
  readonly valueFrom?: { readonly fieldRef: { readonly fieldPath: string } }
}

/** What the kubelet knows of the pod. */
const fields: Readonly<Record<string, string>> = { 'spec.nodeName': 'n1', 'status.hostIP': '192.0.2.1' }

/** Rights that containerd gives to every container. */
const usualRights =
  `CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT
  KILL AUDIT_WRITE`.split(/\s+/)

/** The command that makes containerd run the agent as the manifest says, with more options at its end, under this name. */
function agentCommand(machine: Machine, name: string, ...options: string[]): string[] {
  const manifest = machine.host.run([`${executables}/ns-net`, 'kind', 'manifest', '--cluster', 'lab']).stdout
  const { spec } = parseAllDocuments(manifest).at(-1)!.toJS().spec.template
  const { command, args, env, securityContext, volumeMounts } = spec.containers[0]
  const { add, drop } = securityContext.capabilities
  expect({ ...securityContext, drop }).toMatchObject({ privileged: false, readOnlyRootFilesystem: true, drop: ['ALL'] })
  const path = ({ name }: Mount) => spec.volumes.find((each: { name: string }) => each.name === name).hostPath.path
  const bind = (from: string, to: string, how: string) => `--mount=type=bind,src=${from},dst=${to},options=${how}`
  const mounts = volumeMounts.map((mount: Mount) => {
    const propagation = mount.mountPropagation === 'HostToContainer' ? 'rslave' : 'rprivate'
    return bind(path(mount).replace('/opt/cni/bin', binDirectory), mount.mountPath, `rbind:rw:${propagation}`)
  })
  return ctr(
    'run',
    '--snapshotter=native',
    '--runc-binary=/run/crun',
    '--cgroup=',
    '--net-host',
    '--read-only',
    ...usualRights.filter((right) => !add.includes(right)).map((right) => `--cap-drop=CAP_${right}`),
    ...add.map((right: string) => `--cap-add=CAP_${right}`),
    ...mounts,
    bind(serviceAccount, '/var/run/secrets/kubernetes.io/serviceaccount', 'rbind:ro'),
    ...env.map(
      ({ name, value, valueFrom }: Variable) => `--env=${name}=${value ?? fields[valueFrom!.fieldRef.fieldPath]}`,
    ),
    imageName(machine),
    name,
    ...[...command, ...args, ...options],
  )
}

const imageName = (machine: Machine): string => {
  const names = machine
    .run(ctr('image', 'ls', '-q'))
    .stdout.trim()
    .split('\n')
  return names.find((name) => /ns-net:\d/.test(name))!
}

const status = (place: Place, path: string): string =>
  place.run(['curl', '-s', '-o', '/dev/stderr', '-w', '%{http_code}', `http://127.0.0.1:19090${path}`], {
    expectFailure: 'maybe',
  }).stdout

/** Starts it, and waits until the kubelet would find it ready. */
async function startAgent(
  node: Machine,
  name: string,
  ...options: string[]
): Promise<{ agent: ChildProcess; printed: string[] }> {
  const agent = node.start(agentCommand(node, name, '--collect-every', '1', ...options))
  const printed: string[] = []
  for (const stream of [agent.stdout!, agent.stderr!])
    stream.setEncoding('utf8').on('data', (text: string) => printed.push(text))
  await eventually('ready', () => {
    if (status(node.host, '/readyz') !== '200') throw new Error(printed.join(''))
    return true
  })
  return { agent, printed }
}

/** Calls the installed executables with the written conflist, as a runtime does. */
function attachPod(machine: Machine, name: string): { place: Pick<Place, 'run'>; gateways: string[] } {
  machine.run(['ip', 'netns', 'add', name])
  const place: Pick<Place, 'run'> = {
    run: (command, options) => machine.run(['ip', 'netns', 'exec', name, ...command], options),
  }
  place.run(['ip', 'link', 'set', 'lo', 'up'])
  const list = JSON.parse(readFileSync(machine.host.file(conflistPath), 'utf8'))
  let prevResult: { ips: { gateway: string }[] } | undefined
  for (const plugin of list.plugins) {
    const env = {
      CNI_COMMAND: 'ADD',
      CNI_CONTAINERID: name,
      CNI_NETNS: `/run/netns/${name}`,
      CNI_IFNAME: 'eth0',
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=${name}`,
      CNI_PATH: binDirectory,
    }
    const config = { ...plugin, name: list.name, cniVersion: list.cniVersion, ...(prevResult && { prevResult }) }
    prevResult = JSON.parse(
      machine.run([`${binDirectory}/${plugin.type}`], { env, input: JSON.stringify(config) }).stdout,
    )
  }
  return { place, gateways: prevResult!.ips.map(({ gateway }) => gateway) }
}

function checkArchive(machine: Machine): void {
  const { host, run } = machine
  expect(statSync(host.file(archive)).size).toBeLessThan(130e6)
  const read = (path: string) => JSON.parse(readFileSync(host.file(`${content}/${path}`), 'utf8'))
  const blob = ({ digest }: { digest: string }) => `blobs/sha256/${digest.replace('sha256:', '')}`
  expect(read('oci-layout')).toEqual({ imageLayoutVersion: '1.0.0' })
  const { manifests } = read('index.json')
  expect(manifests).toHaveLength(1)
  const manifest = read(blob(manifests[0]))
  expect(manifest.layers).toHaveLength(1)
  const { config } = read(blob(manifest.config))
  expect(config.Entrypoint).toEqual(['/opt/ns-net/bin/ns-net'])

  const layer = `${content}/${blob(manifest.layers[0])}`
  const paths = run(['tar', '--list', '--file', layer]).stdout.trim().split('\n')
  expect(paths).toContain('opt/ns-net/bin/ns-net')
  const folders = new Set(paths.map((path) => path.split('/')[0]))
  expect([...folders].sort()).toEqual(['etc', 'lib', 'lib64', 'opt', 'proc', 'run', 'sys', 'tmp', 'var'])
  // Where it was built and what it was made from, anywhere in it.
  const places = [root.replace(/\/$/, ''), '/ns-net-image-']
  const traces = places.filter((place) => run(['grep', '-qaF', place, layer], { expectFailure: 'maybe' }).status === 0)
  expect(traces).toEqual([])
}

test('the image of the agent does its work with the rights and folders of the manifest', {
  timeout: 300_000,
}, async (context) => {
  requireTool('ping', context)
  using node = await createNode(context)
  const { host, api } = node
  checkArchive(node)
  using cri = connectCri(host.file(socket))
  const version = JSON.parse(readFileSync(`${root}package.json`, 'utf8')).version
  // For which the CRI looks up docker.io/library/ns-net, and nothing else.
  await until('a kubelet finds the image by the name in the manifest', () => cri.hasImage(`ns-net:${version}`))

  api.setNode('n1', { podCIDRs: ['10.244.1.0/24', 'fd00:10:244:1::/64'], addresses: ['192.0.2.1', '2001:db8::1'] })
  api.setNode('n2', { podCIDRs: ['10.244.2.0/24', 'fd00:10:244:2::/64'], addresses: ['192.0.2.3', '2001:db8::3'] })
  const { agent, printed } = await startAgent(node, 'agent')
  // The manifest says where the API server is by a name.
  expect(printed.join('')).toContain('"server":"https://lab-control-plane:6443"')
  expect(node.names.asked).toContain(controlPlane)
  const found = node.run(ctr('task', 'exec', '--exec-id=get', 'agent', '/opt/ns-net/bin/ns-net', '__get', 'neighbour'))
  expect(found.stdout).toBe('192.0.2.77\n')

  const pid = node.sh("pgrep --full '^/opt/ns-net/bin/ns-net agent'").stdout.trim()
  const facts = node.run(['cat', `/proc/${pid}/status`]).stdout
  const rights = (1n << 12n) | (1n << 13n) // CAP_NET_ADMIN, CAP_NET_RAW
  for (const set of ['Eff', 'Prm', 'Bnd'])
    expect(BigInt(`0x${facts.match(new RegExp(`^Cap${set}:\\s*(\\w+)`, 'm'))![1]}`)).toBe(rights)
  expect(node.run(['cat', `/proc/${pid}/mounts`]).stdout).toMatch(/^\S+ \/ \S+ ro\b/m)

  const names = node.run(['ls', binDirectory]).stdout.trim().split('\n')
  expect(names.sort()).toEqual(readdirSync(executables).sort())
  expect(agentRoutes(host)).toEqual(
    ['10.244.1.0/24 7', 'fd00:10:244:1::/64 7', '10.244.2.0/24 192.0.2.3', 'fd00:10:244:2::/64 2001:db8::3'].sort(),
  )
  expect(host.run(['nft', 'list', 'table', 'inet', 'ns-net-agent']).stdout).toMatch(/masquerade/)

  const { place, gateways } = attachPod(node, 'web')
  expect(gateways).toHaveLength(2)
  for (const address of [...gateways, '192.0.2.1', '2001:db8::1', '192.0.2.2'])
    expect(answers(place as Place, address), address).toBe(true)

  // Nobody calls DEL for it: the agent does, from inside the container.
  const leases = () => node.run(['ls', '/run/ns-net/ipam/ns-net']).stdout
  expect(leases()).toContain('10.244.1.2')
  node.run(['ip', 'netns', 'del', 'web'])
  await eventually('the lease of a pod that is gone', () => !leases().includes('10.244.1.2'))

  node.run(ctr('task', 'kill', '--signal=SIGTERM', 'agent'))
  const [code] = agent.exitCode === null ? await once(agent, 'exit') : [agent.exitCode]
  expect(code).toBe(0)

  // With chaos in the list, whose notes are in a folder of the node's that the container has.
  await startAgent(node, 'chaotic', '--chaos')
  const chaos = (...args: string[]) => node.run([`${binDirectory}/ns-net`, 'chaos', ...args]).stdout
  await eventually('the other conflist', () => node.run(['cat', conflistPath]).stdout.includes('chaos'))
  chaos('add', '--pod', 'cut', '--partition', 'db')
  attachPod(node, 'db')
  attachPod(node, 'cut')
  const rules = () => host.run(['nft', 'list', 'ruleset']).stdout
  expect(rules().match(/daddr 10\.244\.1\.\d+ drop/g)).toHaveLength(2)
  for (const name of ['cut', 'db']) node.run(['ip', 'netns', 'del', name])
  await eventually('leases of both', () => !/10\.244\.1\./.test(leases()))
  expect(rules()).not.toContain('ns-net-chaos')
  chaos('report', '--clear')
  expect(node.run(['ls', '/run/ns-net']).stdout).not.toContain('chaos')
})
