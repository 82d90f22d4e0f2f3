import { CliError } from '../errors.ts'
import { must, run } from './cluster.ts'

/**
 * What a cluster's network has to do, tried with packets between pods on two nodes. They run our own image, which is on
 * every node already: `ns-net __serve` answers, `ns-net __get` asks.
 */
export interface Row {
  readonly check: string
  readonly family: 4 | 6
  readonly ok: boolean
  readonly seen: string
}

export const checkNamespace = 'ns-net-check'
const program = '/opt/ns-net/bin/ns-net'

interface Pod {
  readonly name: string
  readonly node: string
  readonly ips: readonly string[]
  readonly hostIps: readonly string[]
}

const pod = (image: string, name: string, node: string, hostPort?: number) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: checkNamespace, labels: { app: name } },
  spec: {
    nodeName: node,
    terminationGracePeriodSeconds: 0,
    tolerations: [{ operator: 'Exists' }],
    containers: [
      { name: 'probe', image, command: [program, '__serve', '8080'], ports: [{ containerPort: 8080, hostPort }] },
    ],
  },
})

const inHostNetwork = (document: ReturnType<typeof pod>) => ({
  ...document,
  spec: { ...document.spec, hostNetwork: true },
})

/** Everything that is made in the cluster: two pods on one node, one on another, one in the host's network, a service. */
export function checkDocuments(image: string, nodes: readonly string[], families: readonly (4 | 6)[]): object[] {
  const [one, other = one] = nodes as [string, string?]
  const server = pod(image, 'server', one, 18080)
  return [
    { apiVersion: 'v1', kind: 'Namespace', metadata: { name: checkNamespace } },
    server,
    pod(image, 'near', one),
    pod(image, 'far', other!),
    inHostNetwork(pod(image, 'host', other!)),
    ...families.map((family) => ({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: `server-v${family}`, namespace: checkNamespace },
      spec: {
        selector: { app: 'server' },
        ipFamilyPolicy: 'SingleStack',
        ipFamilies: [`IPv${family}`],
        ports: [{ port: 80, targetPort: 8080 }],
      },
    })),
  ]
}

const kubectl = ['kubectl', '-n', checkNamespace]
const read = (...what: string[]) => JSON.parse(must([...kubectl, 'get', ...what, '-o', 'json']))

/** The pods of {@link checkDocuments} by their names. */
function readPods(): (name: string) => Pod {
  const { items } = read('pods')
  const pods = new Map<string, Pod>(
    items.map(({ metadata, spec, status }: PodJson) => [
      metadata.name,
      {
        name: metadata.name,
        node: spec.nodeName,
        ips: (status.podIPs ?? []).map(({ ip }) => ip),
        hostIps: (status.hostIPs ?? [{ ip: status.hostIP ?? '' }]).map(({ ip }) => ip),
      },
    ]),
  )
  return (name) => {
    const found = pods.get(name)
    if (!found) throw new CliError('failed', `pod "${name}" is gone`, `kubectl -n ${checkNamespace} get events`)
    return found
  }
}

interface PodJson {
  readonly metadata: { readonly name: string }
  readonly spec: { readonly nodeName: string }
  readonly status: {
    readonly podIPs?: readonly { readonly ip: string }[]
    readonly hostIPs?: readonly { readonly ip: string }[]
    readonly hostIP?: string
  }
}

const url = (address: string, port: number, path: string): string =>
  `http://${address.includes(':') ? `[${address}]` : address}:${port}${path}`

/** What a pod gets from an address; empty when nothing answers within three seconds. */
const get = (from: string, target: string): string =>
  run([...kubectl, 'exec', from, '--', program, '__get', target]).stdout.trim()

const ofFamily = (addresses: readonly string[], family: 4 | 6) =>
  addresses.find((address) => address.includes(':') === (family === 6))

/** Runs every check for every family that the pods have. */
export function runChecks(): Row[] {
  const [server, near, far, host] = (['server', 'near', 'far', 'host'] as const).map(readPods()) as [Pod, Pod, Pod, Pod]
  const place = far.node === server.node ? 'same node' : 'other node'
  const families = ([4, 6] as const).filter((family) => ofFamily(server.ips, family))
  return families.flatMap((family) => {
    const to = ofFamily(server.ips, family)!
    const clientip = url(to, 8080, '/clientip')
    const service = read('service', `server-v${family}`).spec.clusterIP as string
    const rows: Row[] = []
    const expect = (check: string, seen: string, wanted: string | undefined) =>
      rows.push({ check, family, ok: seen !== '' && seen === wanted, seen: seen || 'no answer' })
    expect('pod to pod, same node', get('near', clientip), ofFamily(near.ips, family))
    expect(`pod to pod, ${place}`, get('far', clientip), ofFamily(far.ips, family))
    expect('node to pod', get('host', clientip), ofFamily(host.hostIps, family))
    expect('pod to service, same node', get('near', url(service, 80, '/hostname')), 'server')
    expect(`pod to service, ${place}`, get('far', url(service, 80, '/hostname')), 'server')
    expect('pod to itself by service', get('server', url(service, 80, '/hostname')), 'server')
    const node = ofFamily(server.hostIps, family)
    if (node) expect('pod to hostPort', get('far', url(node, 18080, '/hostname')), 'server')
    const large = get('far', url(to, 8080, `/echo?msg=${'x'.repeat(4000)}`))
    expect('large packet', String(large.length), '4000')
    return rows
  })
}

/** DNS has no family of its own: the cluster's resolver answers by whichever it has. */
export function checkDns(): Row {
  const seen = get('far', 'kubernetes.default.svc.cluster.local')
  return { check: 'DNS', family: seen.includes(':') ? 6 : 4, ok: seen !== '', seen: seen || 'no answer' }
}

/** A node's own address as the outside sees what a pod sends there. */
export function checkOutside(target: string): Row {
  const seen = get('far', target)
  return {
    check: `pod to outside (${target})`,
    family: target.includes('[') ? 6 : 4,
    ok: seen !== '',
    seen: seen || 'no answer',
  }
}
