import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, resolve } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { executables, type Host } from '../host.ts'
import { createCertificates, type NodeFacts } from './api-server.ts'
import { eventually, rest } from './nodes.ts'

/**
 * etcd and the kube-apiserver of Kubernetes in a throw-away host, in the place of the double of api-server.ts. The agent's
 * account has the rights that `ns-net kind manifest` gives it, and no others.
 */

export interface RealPrograms {
  readonly etcd: string
  readonly kubeApiserver: string
}

export interface Answer {
  readonly status: number
  // biome-ignore lint/suspicious/noExplicitAny: any object of Kubernetes
  readonly body: any
}

export interface RealApiServer extends Disposable {
  /** Certificate of the CA that signed the server's. */
  readonly ca: string
  /** Of the agent's account. */
  readonly token: string
  /** Of somebody who may do everything. */
  readonly adminToken: string
  /** podCIDRs that a node has stay its own: others are refused by the server, and that is thrown. */
  setNode(name: string, facts: NodeFacts): void
  deleteNode(name: string): void
  call(token: string, method: string, path: string, body?: object): Answer
  /** Ends kube-apiserver without a warning; etcd keeps what it knew. */
  kill(): Promise<void>
  /** Starts it again. */
  start(): Promise<void>
}

/** Where setup-envtest and kubebuilder put them, after PATH. */
const places = () =>
  [
    ...(process.env.PATH ?? '').split(delimiter),
    process.env.KUBEBUILDER_ASSETS ?? '',
    '/usr/local/kubebuilder/bin',
  ].filter((place) => place !== '')

function findProgram(name: string): string | undefined {
  return places()
    .map((place) => resolve(place, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK)
        return true
      } catch {
        return false
      }
    })
}

/** The programs, or why there are none. */
export function findRealPrograms(): RealPrograms | string {
  const [etcd, kubeApiserver] = [findProgram('etcd'), findProgram('kube-apiserver')]
  if (etcd && kubeApiserver) return { etcd, kubeApiserver }
  const missing = [etcd ? [] : 'etcd', kubeApiserver ? [] : 'kube-apiserver'].flat()
  return `${missing.join(' and ')}: not in PATH, KUBEBUILDER_ASSETS or /usr/local/kubebuilder/bin`
}

/** In the host's /run, which is memory and ends with it. */
const folder = '/run/api-server'
const port = 6443
const etcdClients = 'http://127.0.0.1:2379'
const etcdPeers = 'http://127.0.0.1:2380'
/** Generous: minutes on a small machine, where a usual one needs ten seconds. */
const patience = 180_000

/** Its certificate proves that it is any of these addresses and names. The first is an IPv4 address of the host. */
export async function startRealApiServer(
  host: Host,
  { etcd, kubeApiserver }: RealPrograms,
  subjects: readonly string[],
): Promise<RealApiServer> {
  const [address] = subjects
  const [adminToken, token] = ['admin-of-the-test', 'token-of-the-agent']
  const { account, objects } = rightsOfTheAgent(host)
  const tokens = `${adminToken},admin,1,"system:masters"\n${token},${account},2\n`
  const ca = writeFiles(host, subjects, tokens)

  const started: ChildProcess[] = []
  const start = (program: string, args: readonly string[], name: string) => {
    // Into a file: nobody reads a pipe while this process waits for a command.
    const child = host.start(['sh', '-c', `exec "$0" "$@" >>${logOf(name)} 2>&1`, program, ...args])
    started.push(child)
    return child
  }
  const call = (as: string, method: string, path: string, body?: object): Answer =>
    request(host, `https://${address}:${port}${path}`, as, method, body)
  const admin: AdminRequest = (method, path, body, but) => {
    const answer = call(adminToken, method, path, body)
    if ((answer.status < 200 || answer.status >= 300) && answer.status !== but)
      throw new Error(`${method} ${path}: ${answer.status || 'no answer'} ${answer.body?.message}`)
    return answer
  }

  let server: ChildProcess | undefined
  const api: RealApiServer = {
    ca,
    token,
    adminToken,
    call,
    ...nodeRequests(admin),
    async kill() {
      const ended = once(server!, 'exit')
      server!.kill('SIGKILL')
      await ended
    },
    async start() {
      server = start(kubeApiserver, serverFlags(address!), 'kube-apiserver')
      await untilReady(host, 'kube-apiserver', server, () => call(adminToken, 'GET', '/readyz').status === 200)
    },
    [Symbol.dispose]() {
      for (const child of started) child.kill('SIGKILL')
    },
  }
  try {
    const store = start(etcd, etcdFlags, 'etcd')
    await untilReady(host, 'etcd', store, () => curl(host, [`${etcdClients}/health`]).status === 200)
    await api.start()
    for (const [path, object] of objects) admin('POST', path, object)
    // The server hears of its own rights as everybody hears of news: by a watch.
    await eventually('the rights of the agent', () => call(token, 'GET', '/api/v1/nodes').status === 200)
    return api
  } catch (error) {
    api[Symbol.dispose]()
    throw error
  }
}

/** Throws on any answer that is neither a success nor the status `but`. */
type AdminRequest = (method: string, path: string, body?: object, but?: number) => Answer

const nodeRequests = (admin: AdminRequest): Pick<RealApiServer, 'setNode' | 'deleteNode'> => ({
  setNode(name, { podCIDRs, addresses }) {
    const path = `/api/v1/nodes/${name}`
    const spec = podCIDRs ? { podCIDR: podCIDRs[0], podCIDRs } : {}
    const internal = addresses.map((address) => ({ type: 'InternalIP', address }))
    const status = { addresses: [...internal, { type: 'Hostname', address: name }] }
    const node = { apiVersion: 'v1', kind: 'Node', metadata: { name }, spec, status }
    if (admin('POST', '/api/v1/nodes', node, 409).status === 409) admin('PATCH', path, { spec })
    admin('PATCH', `${path}/status`, { status })
  },
  deleteNode: (name) => void admin('DELETE', `/api/v1/nodes/${name}`, undefined, 404),
})

/** User name of the agent's account, and the objects with its rights by the path where they are made. */
function rightsOfTheAgent(host: Host): { account: string; objects: readonly (readonly [string, object])[] } {
  const manifest = host.run([`${executables}/ns-net`, 'kind', 'manifest']).stdout
  const all = parseAllDocuments(manifest).map((document) => document.toJS())
  const { metadata } = all.find(({ kind }) => kind === 'ServiceAccount')
  const group = '/apis/rbac.authorization.k8s.io/v1'
  return {
    account: `system:serviceaccount:${metadata.namespace}:${metadata.name}`,
    objects: [
      [`${group}/clusterroles`, all.find(({ kind }) => kind === 'ClusterRole')],
      [`${group}/clusterrolebindings`, all.find(({ kind }) => kind === 'ClusterRoleBinding')],
    ],
  }
}

/** What the flags below name; returns the CA's certificate. */
function writeFiles(host: Host, subjects: readonly string[], tokens: string): string {
  mkdirSync(host.file(folder))
  const { ca, cert, key } = createCertificates(subjects)
  const files = { 'ca.crt': ca, 'server.crt': cert, 'server.key': key, 'tokens.csv': tokens }
  for (const [name, text] of Object.entries(files)) writeFileSync(host.file(`${folder}/${name}`), text, { mode: 0o600 })
  host.run(['openssl', 'genrsa', '-out', `${folder}/accounts.key`, '2048'])
  return ca
}

const etcdFlags = [
  `--data-dir=${folder}/etcd`,
  `--listen-client-urls=${etcdClients}`,
  `--advertise-client-urls=${etcdClients}`,
  `--listen-peer-urls=${etcdPeers}`,
  `--initial-advertise-peer-urls=${etcdPeers}`,
  `--initial-cluster=default=${etcdPeers}`,
]

const serverFlags = (address: string): readonly string[] => [
  `--etcd-servers=${etcdClients}`,
  '--bind-address=::', // both families
  `--secure-port=${port}`,
  // Otherwise it looks for the interface of the default route, and there is none.
  `--advertise-address=${address}`,
  `--tls-cert-file=${folder}/server.crt`,
  `--tls-private-key-file=${folder}/server.key`,
  `--client-ca-file=${folder}/ca.crt`,
  `--token-auth-file=${folder}/tokens.csv`,
  '--authorization-mode=RBAC',
  '--service-account-issuer=https://kubernetes.default.svc',
  `--service-account-key-file=${folder}/accounts.key`,
  `--service-account-signing-key-file=${folder}/accounts.key`,
  '--service-cluster-ip-range=10.96.0.0/16', // of the family of the address
  '--disable-admission-plugins=ServiceAccount', // nobody here makes the accounts that it looks for
]

const logOf = (name: string) => `${folder}/${name}.log`

async function untilReady(host: Host, name: string, child: ChildProcess, isReady: () => boolean): Promise<void> {
  const deadline = performance.now() + patience
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null
  while (!hasEnded() && performance.now() < deadline) {
    if (isReady()) return
    await rest(250) // each look takes time from the one that is looked at
  }
  const how = hasEnded() ? `ended with ${child.exitCode ?? child.signalCode}` : 'is not ready'
  throw new Error(`${name} ${how}:\n${readFileSync(host.file(logOf(name)), 'utf8').slice(-2000)}`)
}

/** By curl, as it is in the host's network and does not return before it is done. */
function request(host: Host, url: string, token: string, method: string, body?: object): Answer {
  const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json'
  const sent = body ? ['-H', `Content-Type: ${type}`, '--data-binary', '@-'] : []
  const head = ['--cacert', `${folder}/ca.crt`, '-X', method, '-H', `Authorization: Bearer ${token}`]
  return curl(host, [...head, ...sent, url], body && JSON.stringify(body))
}

/** Status 0 when nobody answered. */
function curl(host: Host, args: readonly string[], input?: string): Answer {
  const command = ['curl', '-s', '-S', '--max-time', '20', '-w', '\n%{http_code}', ...args]
  const { stdout } = host.run(command, { expectFailure: 'maybe', ...(input && { input }) })
  const end = stdout.lastIndexOf('\n')
  return { status: Number(stdout.slice(end + 1)), body: jsonIn(stdout.slice(0, end)) }
}

/** /readyz answers in words. */
function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return { message: text }
  }
}
