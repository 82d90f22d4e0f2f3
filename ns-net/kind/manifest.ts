import { stringify } from 'yaml'
import { version } from '../version.ts'

/** What `kubectl apply` needs to connect a cluster's pods by our plugins: DaemonSet, account and rights. */
export interface ManifestOptions {
  /** Never `:latest`, which kubelet would pull again for each start (kind #328). */
  readonly image: string
  /** The agent can reach the API server by the control plane's name before kube-proxy has made service addresses work. */
  readonly cluster?: string
  readonly mode: 'bridge' | 'veth'
  /** Ranges of all pods of the cluster, so that no node translates between them before it knows the others. */
  readonly podSubnets: readonly string[]
  /** Destinations that see the pods' own addresses. */
  readonly noMasq: readonly string[]
  /** Puts the plugin chaos into the conflist. */
  readonly chaos: boolean
}

export const imageName = (): string => `ns-net:${version()}`

const name = 'ns-net'
const namespace = 'kube-system'
const labels = { app: name }
const health = { host: '127.0.0.1', port: 19090 }

interface HostPath {
  readonly name: string
  readonly path: string
  readonly why: string
  readonly propagation?: 'HostToContainer'
}

/** Everything of the node that the agent reads or writes. */
export const hostPaths: readonly HostPath[] = [
  { name: 'cni-bin', path: '/opt/cni/bin', why: 'the executables are installed here' },
  { name: 'cni-conf', path: '/etc/cni/net.d', why: 'the conflist is written here' },
  { name: 'state', path: '/run/ns-net', why: 'users of rules, for the collection of what is stale' },
  { name: 'cni-state', path: '/var/lib/cni', why: 'leases and results, for the same' },
  { name: 'netns', path: '/run/netns', why: 'which pods are alive', propagation: 'HostToContainer' },
]

export const capabilities = ['NET_ADMIN', 'NET_RAW']

export function manifestDocuments(options: ManifestOptions): object[] {
  return [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace, labels } },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRole',
      metadata: { name, labels },
      rules: [{ apiGroups: [''], resources: ['nodes'], verbs: ['get', 'list', 'watch'] }],
    },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata: { name, labels },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name },
      subjects: [{ kind: 'ServiceAccount', name, namespace }],
    },
    daemonSet(options),
  ]
}

/** The documents as YAML. */
export const manifest = (options: ManifestOptions): string =>
  `# made by ns-net ${version()}: ns-net kind manifest\n${manifestDocuments(options)
    .map((document) => stringify(document, { lineWidth: 0 }))
    .join('---\n')}`

function daemonSet(options: ManifestOptions): object {
  return {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: { name, namespace, labels },
    spec: {
      selector: { matchLabels: labels },
      updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 1 } },
      template: { metadata: { labels }, spec: podSpec(options) },
    },
  }
}

function podSpec(options: ManifestOptions): object {
  return {
    serviceAccountName: name,
    hostNetwork: true,
    priorityClassName: 'system-node-critical',
    // A node is not ready before we run on it, so its taints must not keep us away.
    tolerations: [{ operator: 'Exists' }],
    nodeSelector: { 'kubernetes.io/os': 'linux' },
    terminationGracePeriodSeconds: 5,
    containers: [container(options)],
    volumes: hostPaths.map(({ name: volume, path }) => ({
      name: volume,
      hostPath: { path, type: 'DirectoryOrCreate' },
    })),
  }
}

function container({ image, cluster, mode, podSubnets, noMasq, chaos }: ManifestOptions): object {
  const probe = (path: string) => ({ httpGet: { ...health, path }, periodSeconds: 5 })
  const field = (variable: string, fieldPath: string) => ({ name: variable, valueFrom: { fieldRef: { fieldPath } } })
  return {
    name: 'agent',
    image,
    imagePullPolicy: 'IfNotPresent',
    command: ['/opt/ns-net/bin/ns-net', 'agent', '--install-from', '/opt/ns-net/bin', '--mode', mode],
    args: [
      ...podSubnets.flatMap((subnet) => ['--pod-subnet', subnet]),
      ...noMasq.flatMap((range) => ['--no-masq', range]),
      ...(chaos ? ['--chaos'] : []),
    ],
    env: [
      field('NODE_NAME', 'spec.nodeName'),
      field('HOST_IP', 'status.hostIP'),
      ...(cluster ? [{ name: 'CONTROL_PLANE_ENDPOINT', value: `${cluster}-control-plane:6443` }] : []),
    ],
    securityContext: {
      privileged: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'], add: [...capabilities] },
    },
    resources: { requests: { cpu: '100m', memory: '50Mi' } },
    livenessProbe: { ...probe('/healthz'), initialDelaySeconds: 10, failureThreshold: 6 },
    readinessProbe: probe('/readyz'),
    volumeMounts: hostPaths.map(({ name: volume, path, propagation }) => ({
      name: volume,
      mountPath: path,
      ...(propagation && { mountPropagation: propagation }),
    })),
  }
}

export interface ClusterOptions {
  readonly workers: number
  readonly ipFamily: 'ipv4' | 'ipv6' | 'dual'
  readonly podSubnets: readonly string[]
}

/** A file for `kind create cluster --config`: no CNI of kind's own. */
export function clusterConfig({ workers, ipFamily, podSubnets }: ClusterOptions): string {
  const document = {
    kind: 'Cluster',
    apiVersion: 'kind.x-k8s.io/v1alpha4',
    networking: {
      disableDefaultCNI: true,
      ipFamily,
      ...(podSubnets.length > 0 && { podSubnet: podSubnets.join(',') }),
    },
    nodes: [{ role: 'control-plane' }, ...Array.from({ length: workers }, () => ({ role: 'worker' }))],
  }
  return stringify(document)
}

/** What kind and kubeadm choose unless told. */
export const standardPodSubnets: Readonly<Record<ClusterOptions['ipFamily'], readonly string[]>> = {
  ipv4: ['10.244.0.0/16'],
  ipv6: ['fd00:10:244::/56'],
  dual: ['10.244.0.0/16', 'fd00:10:244::/56'],
}
