import { DaemonSet } from 'kubernetes-models/apps/v1/DaemonSet'
import { ClusterRole } from 'kubernetes-models/rbac.authorization.k8s.io/v1/ClusterRole'
import { ClusterRoleBinding } from 'kubernetes-models/rbac.authorization.k8s.io/v1/ClusterRoleBinding'
import { ServiceAccount } from 'kubernetes-models/v1/ServiceAccount'
import { expect, test } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { createHost, executables, type Host } from '../host.ts'

const kind = (host: Host, ...args: string[]) => host.run([`${executables}/ns-net`, 'kind', ...args]).stdout

/** The documents of a manifest, as a YAML parser sees them. */
function documents(host: Host, ...args: string[]) {
  return parseAllDocuments(kind(host, 'manifest', ...args)).map((document) => document.toJS())
}

const models = { ServiceAccount, ClusterRole, ClusterRoleBinding, DaemonSet }

test.each([[[]], [['--cluster', 'lab', '--mode', 'bridge', '--chaos', '--no-masq', '192.168.0.0/16']]])(
  'the manifest with %j validates against the schemas of Kubernetes',
  (args) => {
    using host = createHost()
    const all = documents(host, ...args)
    expect(all.map(({ kind: each }) => each)).toEqual(Object.keys(models))
    for (const document of all) {
      const Model = models[document.kind as keyof typeof models] as new (data: object) => { validate(): void }
      expect(() => new Model(document).validate()).not.toThrow()
    }
  },
)

test('the schemas would refuse what is wrong', () => {
  using host = createHost()
  const daemonSet = documents(host).at(-1)
  daemonSet.spec.template.spec.containers[0].securityContext.capabilities.add = 'NET_ADMIN'
  expect(() => new DaemonSet(daemonSet).validate()).toThrow('add')
})

test('it asks for no more than the agent needs', () => {
  using host = createHost()
  const [, role, , daemonSet] = documents(host, '--cluster', 'lab', '--chaos')
  expect(role.rules).toEqual([{ apiGroups: [''], resources: ['nodes'], verbs: ['get', 'list', 'watch'] }])
  const { containers, volumes, hostNetwork } = daemonSet.spec.template.spec
  const [{ securityContext, volumeMounts, command, args, env, image }] = containers
  expect(hostNetwork).toBe(true)
  expect(securityContext).toEqual({
    privileged: false,
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW'] },
  })
  expect(volumes.map(({ hostPath }: { hostPath: { path: string } }) => hostPath.path)).toEqual([
    '/opt/cni/bin',
    '/etc/cni/net.d',
    '/run/ns-net',
    '/var/lib/cni',
    '/run/netns',
  ])
  expect(volumeMounts.map(({ name }: { name: string }) => name)).toEqual(
    volumes.map(({ name }: { name: string }) => name),
  )
  expect(env).toContainEqual({ name: 'CONTROL_PLANE_ENDPOINT', value: 'lab-control-plane:6443' })
  expect(image).not.toMatch(/:latest$/)
  // Every option of the container is one that the agent has.
  const help = host.run([`${executables}/ns-net`, 'agent', '--help']).stdout
  const options = [...command, ...args].filter((word: string) => word.startsWith('--'))
  expect(options.length).toBeGreaterThan(3)
  for (const option of options) expect(help).toContain(option)
})

test('the file for kind switches its own network off', () => {
  using host = createHost()
  expect(parse(kind(host, 'config', '--workers', '1', '--family', 'ipv4'))).toEqual({
    kind: 'Cluster',
    apiVersion: 'kind.x-k8s.io/v1alpha4',
    networking: { disableDefaultCNI: true, ipFamily: 'ipv4' },
    nodes: [{ role: 'control-plane' }, { role: 'worker' }],
  })
})

test.each([
  [['manifest', '--image', 'ns-net:latest'], 2, 'image "ns-net:latest" has no tag of its own'],
  [['manifest', '--image', 'localhost:5000/ns-net'], 2, 'has no tag of its own'],
  [['manifest', '--mode', 'vlan'], 2, 'unknown mode "vlan"'],
  [['manifest', '--pod-subnet', '10.1'], 2, '"10.1" is no range of addresses'],
  [['config', '--workers', 'two'], 2, 'expected a number from 0 to 100'],
])('ns-net kind %j is refused', (args, status, words) => {
  using host = createHost()
  const refused = host.run([`${executables}/ns-net`, 'kind', ...args], { expectFailure: true })
  expect(refused).toMatchObject({ status, stderr: expect.stringContaining(words) })
})

test('what is missing is told, with where to get it', () => {
  using host = createHost()
  const refused = host.run([`${executables}/ns-net`, 'kind', 'up'], { expectFailure: true, env: { PATH: '/nowhere' } })
  expect(refused.status).toBe(6)
  expect(refused.stderr).toMatch(/^ns-net: not installed: kind(, kubectl)?\nhint: kind: https:\/\/kind/)
})
