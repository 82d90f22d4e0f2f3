import { mkdirSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { createHost, executables, type Host } from '../host.ts'
import { until } from '../runtimes/until.ts'
import { createStandIns, type StandIns } from './stand-ins.ts'

/*
 * `kind check` with a kubectl that stands in for a cluster: pods are network namespaces on a bridge, and what check has
 * them run is run there, so that all answers come over a network. Services, host ports and DNS are addresses and names
 * that are simply there. What a kubelet and kube-proxy do is not tried here.
 */

interface Pod {
  readonly name: string
  readonly node: string
  readonly podIPs: readonly string[]
  readonly hostIPs: readonly string[]
}

interface Cluster {
  readonly host: Host
  readonly programs: StandIns
  /** Runs `ns-net kind check`. */
  check(...args: string[]): { readonly status: number; readonly stdout: string; readonly stderr: string }
  /** Ends the server at a pod's port. */
  stop(name: string): void
}

const service = { 4: '10.96.0.10', 6: 'fd00:96::10' } as const
const podsOf = (nodes: readonly string[]): Pod[] => {
  const [one, other = one] = nodes as [string, string?]
  const address = (n: number) => [`10.244.0.${n}`, `fd00:10:244::${n}`]
  return [
    { name: 'server', node: one, podIPs: address(2), hostIPs: address(9) },
    { name: 'near', node: one, podIPs: address(3), hostIPs: address(9) },
    { name: 'far', node: other!, podIPs: address(4), hostIPs: address(5) },
    { name: 'host', node: other!, podIPs: address(5), hostIPs: address(5) },
  ]
}

const folder = '/run/stand-ins'
const write = (host: Host, name: string, content: object) =>
  writeFileSync(host.file(`${folder}/${name}.json`), JSON.stringify(content))

/** What kubectl does: pods and services are read from files, `exec` enters the namespace of the pod. */
const kubectl = `
case "$*" in
  'get nodes -o json') cat ${folder}/nodes.json ;;
  '-n ns-net-check get pods -o json') cat ${folder}/pods.json ;;
  '-n ns-net-check get service server-v4 -o json') echo '{"spec":{"clusterIP":"${service[4]}"}}' ;;
  '-n ns-net-check get service server-v6 -o json') echo '{"spec":{"clusterIP":"${service[6]}"}}' ;;
  '-n ns-net-check exec '*' -- /opt/ns-net/bin/ns-net __get '*) exec ip netns exec "$4" ${executables}/ns-net __get "$8" ;;
  'apply '*|*' wait '*|'delete '*) ;;
  *) echo "kubectl: what is $*?" >&2; exit 1 ;;
esac`

async function createCluster(
  host: Host,
  nodes: readonly string[],
  families: readonly (4 | 6)[] = [4, 6],
): Promise<Cluster> {
  const programs = createStandIns(host, [])
  host.sh(`for name in ip; do ln -s "$(command -v ip)" ${folder}/bin/ip; done
           ip link add nodes type bridge; ip link set nodes up`)
  programs.set('kubectl', kubectl)
  const has = (address: string) => families.includes(address.includes(':') ? 6 : 4)
  const cidrs = ['10.244.0.0/24', 'fd00:10:244::/64'].filter(has)
  write(host, 'nodes', { items: nodes.map((name) => ({ metadata: { name }, spec: { podCIDRs: cidrs } })) })
  const list = (addresses: readonly string[]) => addresses.filter(has).map((ip) => ({ ip }))
  const pods = podsOf(nodes)
  write(host, 'pods', {
    items: pods.map(({ name, node, podIPs, hostIPs }) => ({
      metadata: { name },
      spec: { nodeName: node },
      status: { podIPs: list(podIPs), hostIPs: list(hostIPs), hostIP: hostIPs.find(has) },
    })),
  })
  mkdirSync(host.file('/etc/netns/far'), { recursive: true })
  writeFileSync(host.file('/etc/netns/far/hosts'), '10.96.0.1 kubernetes.default.svc.cluster.local\n')
  for (const { name, podIPs } of pods) {
    // The server has the service's addresses and its node's as well.
    const more = name === 'server' ? [service[4], service[6], '10.244.0.9', 'fd00:10:244::9'] : []
    const all = [...podIPs, ...more].filter(has)
    host.addContainer(name)
    host.sh(`ip link add ${name} type veth peer name eth0 netns ${name}
             ip link set ${name} master nodes up
             ip -n ${name} link set lo up
             ip -n ${name} link set eth0 up
             ${all.map((address) => `ip -n ${name} address add ${address}/${address.includes(':') ? '64 nodad' : '8'} dev eth0`).join('\n')}
             ${has(service[6]) ? `ip -n ${name} route add fd00:96::/64 dev eth0` : ''}`)
  }
  for (const port of [8080, 80, 18080]) {
    const serve = `hostname server; exec ip netns exec server ${executables}/ns-net __serve ${port}`
    host.start(['unshare', '--uts', 'sh', '-c', serve])
    await until(`the server listens at ${port}`, () =>
      host.run(['ip', 'netns', 'exec', 'server', 'ss', '-Hltn', `sport = ${port}`]).stdout.includes(String(port)),
    )
  }
  return {
    host,
    programs,
    check: (...args) =>
      host.run([`${executables}/ns-net`, 'kind', 'check', ...args], { env: programs.env, expectFailure: 'maybe' }),
    stop: (name) => void host.sh(`ip link set ${name} down`),
  }
}

const rowsOf = (families: readonly (4 | 6)[]) =>
  families.flatMap((family) =>
    [
      'pod to pod, same node',
      'pod to pod, other node',
      'node to pod',
      'pod to service, same node',
      'pod to service, other node',
      'pod to itself by service',
      'pod to hostPort',
      'large packet',
    ].map((check) => `${check} v${family}`),
  )
type Row = { check: string; family: number; ok: boolean; seen: string }
const rows = (stdout: string): Row[] => JSON.parse(stdout)
const nameOf = ({ check, family }: Row) => `${check} v${family}`

test('all is well: every check in both families, in pods on two nodes, and nothing stays', async () => {
  using host = createHost()
  const { check, programs } = await createCluster(host, ['lab-control-plane', 'lab-worker', 'lab-worker2'])
  const { status, stdout } = check('--json', '--image', 'a:1', '--outside', 'http://10.244.0.2:8080/clientip')
  expect(rows(stdout).filter(({ ok }) => !ok)).toEqual([])
  expect(status).toBe(0)
  expect(rows(stdout).map(nameOf)).toEqual([
    ...rowsOf([4, 6]),
    'DNS v4',
    'pod to outside (http://10.244.0.2:8080/clientip) v4',
  ])
  expect(rows(stdout).at(-1)!.seen).toBe('10.244.0.4')

  const calls = programs.calls()
  expect(calls.slice(0, 4)).toEqual([
    'kubectl get nodes -o json',
    'kubectl delete namespace ns-net-check --ignore-not-found --timeout=120s',
    'kubectl apply -f -',
    'kubectl -n ns-net-check wait --for=condition=Ready pod --all --timeout=180s',
  ])
  expect(calls.at(-1)).toBe('kubectl delete namespace ns-net-check --wait=false --ignore-not-found')
  const { items } = JSON.parse(programs.stdin('kubectl'))
  const made = items.map(
    ({ kind, metadata }: { kind: string; metadata: { name: string } }) => `${kind} ${metadata.name}`,
  )
  expect(made).toEqual([
    'Namespace ns-net-check',
    ...['server', 'near', 'far', 'host'].map((name) => `Pod ${name}`),
    'Service server-v4',
    'Service server-v6',
  ])
  const pods = items.filter(({ kind }: { kind: string }) => kind === 'Pod')
  // On workers as long as there are any.
  expect(pods.map(({ spec }: { spec: { nodeName: string } }) => spec.nodeName)).toEqual([
    'lab-worker',
    'lab-worker',
    'lab-worker2',
    'lab-worker2',
  ])
  for (const { spec } of pods) expect(spec.containers[0].image).toBe('a:1')
})

test('what does not answer is a row that fails, and exit code 1', async () => {
  using host = createHost()
  const cluster = await createCluster(host, ['lab-control-plane', 'lab-worker'], [4])
  cluster.stop('far')
  const { status, stdout } = cluster.check()
  expect(status).toBe(1)
  const lines = stdout.trim().split('\n')
  expect(lines[0]).toMatch(/^CHECK +IP +RESULT +SEEN$/)
  expect(lines[1]).toMatch(/^pod to pod, same node +v4 +ok +10\.244\.0\.3$/)
  const failed = lines.filter((line) => line.includes('FAIL')).map((line) => line.split(/ {2,}/))
  expect(failed).toEqual([
    ['pod to pod, other node', 'v4', 'FAIL', 'no answer'],
    ['pod to service, other node', 'v4', 'FAIL', 'no answer'],
    ['pod to hostPort', 'v4', 'FAIL', 'no answer'],
    ['large packet', 'v4', 'FAIL', '0'],
  ])
  expect(cluster.programs.calls().at(-1)).toMatch(/^kubectl delete namespace/)
})

test('an address that is translated on the way is a row that fails', async () => {
  using host = createHost()
  const cluster = await createCluster(host, ['lab-worker', 'lab-worker2'], [4])
  host.sh(`ip netns exec far nft -f - <<'END'
    table ip nat { chain post { type nat hook postrouting priority 100; snat to 10.244.0.44; }; }
END
    ip -n far address add 10.244.0.44/8 dev eth0`)
  const { status, stdout } = cluster.check('--json')
  expect(status).toBe(1)
  expect(rows(stdout).filter(({ ok }) => !ok)).toEqual([
    { check: 'pod to pod, other node', family: 4, ok: false, seen: '10.244.0.44' },
  ])
})

test('IPv4 alone, on one node: nothing is said of another node', async () => {
  using host = createHost()
  const { check, programs } = await createCluster(host, ['lab-control-plane'], [4])
  const { status, stdout } = check('--json', '--keep')
  expect(status).toBe(0)
  const checks = rows(stdout).map(nameOf)
  expect(checks.filter((each) => /other node|v6/.test(each))).toEqual([])
  expect(checks).toContain('pod to pod, same node v4')
  expect(programs.calls().at(-1)).toMatch(/^kubectl -n ns-net-check exec/) // --keep
})

test.each([
  ['get nodes*', 1, 8, /kubectl get nodes -o json failed with exit code 7/],
  ['delete*--timeout*', 2, 8, /kubectl delete namespace ns-net-check .* failed with exit code 7/],
  ['apply*', 4, 8, /kubectl apply -f - failed with exit code 7/],
  ['*wait*--for*', 5, 8, /wait .* failed with exit code 7\nhint: --keep leaves the pods: .* describe pods/],
  ['*get pods*', 6, 8, /get pods -o json failed with exit code 7/],
] as const)('check ends where "kubectl %s" fails', (failing, calls, status, words) => {
  using host = createHost()
  const programs = createStandIns(host, [])
  host.run(['mkdir', '-p', folder])
  write(host, 'nodes', { items: [{ metadata: { name: 'n1' }, spec: { podCIDRs: ['10.244.0.0/24'] } }] })
  const fail = `case "$*" in ${failing.replaceAll(' ', '\\ ')}) echo "the reason" >&2; exit 7 ;; esac`
  programs.set('kubectl', `${fail}\n${kubectl}`)
  const command = [`${executables}/ns-net`, 'kind', 'check']
  const refused = host.run(command, { env: programs.env, expectFailure: true })
  expect(refused).toMatchObject({ status, stdout: '', stderr: expect.stringMatching(words) })
  expect(refused.stderr).toContain('the reason')
  expect(programs.calls()).toHaveLength(calls)
  // What was made goes all the same.
  if (calls > 2) expect(programs.calls().at(-1)).toMatch(/^kubectl delete namespace .*--wait=false/)
})

test('a cluster without nodes, and pods that are gone, are no success', () => {
  using host = createHost()
  const programs = createStandIns(host, [])
  programs.set('kubectl', kubectl)
  const check = () => host.run([`${executables}/ns-net`, 'kind', 'check'], { env: programs.env, expectFailure: true })
  write(host, 'nodes', { items: [] })
  expect(check()).toMatchObject({ status: 3, stderr: expect.stringContaining('the cluster has no nodes') })
  write(host, 'nodes', { items: [{ metadata: { name: 'n1' }, spec: { podCIDRs: ['10.244.0.0/24'] } }] })
  write(host, 'pods', { items: [] })
  expect(check()).toMatchObject({ status: 8, stderr: expect.stringContaining('pod "server" is gone') })
})

test('without kubectl', () => {
  using host = createHost()
  const programs = createStandIns(host, [])
  const refused = host.run([`${executables}/ns-net`, 'kind', 'check'], { env: programs.env, expectFailure: true })
  expect(refused).toMatchObject({ status: 6, stderr: expect.stringContaining('not installed: kubectl') })
})
