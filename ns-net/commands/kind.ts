import fs from 'node:fs'
import { CliError } from '../errors.ts'
import { checkDns, checkDocuments, checkNamespace, checkOutside, type Row, runChecks } from '../kind/check.ts'
import { type Engine, kindEnvironment, must, requireEngine, requirePrograms, run } from '../kind/cluster.ts'
import { type ClusterOptions, clusterConfig, imageName, manifest, standardPodSubnets } from '../kind/manifest.ts'
import { requireRange } from '../networks.ts'
import { type Report, table } from '../output.ts'

export interface KindOptions {
  readonly image?: string
  readonly cluster?: string
  readonly mode?: string
  readonly podSubnet?: readonly string[]
  readonly noMasq?: readonly string[]
  readonly chaos?: boolean
  readonly family?: string
  readonly workers?: string
  /** An OCI archive, as `npm run image` makes it, in place of an image of the engine. */
  readonly archive?: string
}

const standardCluster = 'ns-net'

function modeOf(mode = 'veth'): 'bridge' | 'veth' {
  if (mode === 'bridge' || mode === 'veth') return mode
  throw new CliError('usage', `unknown mode "${mode}"`, 'expected veth or bridge')
}

function familyOf(family = 'dual'): ClusterOptions['ipFamily'] {
  if (family === 'ipv4' || family === 'ipv6' || family === 'dual') return family
  throw new CliError('usage', `unknown family "${family}"`, 'expected ipv4, ipv6 or dual')
}

function subnetsOf({ podSubnet, family }: KindOptions): readonly string[] {
  return podSubnet?.map(requireRange) ?? standardPodSubnets[familyOf(family)]
}

function imageOf({ image = imageName() }: KindOptions): string {
  if (image.endsWith(':latest') || !/:[^/]+$/.test(image))
    throw new CliError(
      'usage',
      `image "${image}" has no tag of its own`,
      'kubelet pulls :latest anew; use NAME:VERSION',
    )
  return image
}

/** DaemonSet, account and rights as YAML. */
export function kindManifest(options: KindOptions): string {
  return manifest({
    image: imageOf(options),
    cluster: options.cluster,
    mode: modeOf(options.mode),
    podSubnets: subnetsOf(options),
    noMasq: (options.noMasq ?? []).map(requireRange),
    chaos: options.chaos ?? false,
  })
}

/** A file for kind. */
export function kindConfig(options: KindOptions): string {
  const workers = Number(options.workers ?? '2')
  if (!Number.isInteger(workers) || workers < 0 || workers > 100)
    throw new CliError('usage', `--workers ${options.workers}: expected a number from 0 to 100`)
  return clusterConfig({
    workers,
    ipFamily: familyOf(options.family),
    podSubnets: options.podSubnet ? subnetsOf(options) : [],
  })
}

const told = (step: string) => process.stderr.write(`${step}\n`)

/** The image must be where kind loads it from: told now, and not when the cluster has been made. */
function requireImage(image: string, archive: string | undefined, engine: Engine): void {
  if (archive !== undefined) {
    if (fs.existsSync(archive)) return
    throw new CliError('notFound', `there is no archive ${archive}`, `npm run image -- ${archive}`)
  }
  // `kind load docker-image` asks docker, whatever the provider is (kind #4033).
  if (engine === 'podman')
    throw new CliError(
      'unsupported',
      'kind loads no images from podman',
      'npm run image -- ns-net.tar, and --archive ns-net.tar',
    )
  must(['docker', 'image', 'inspect', image], { hint: `docker build -t ${image} ., or --archive FILE` })
}

/** Makes a cluster, loads the image, applies the manifest and waits until every node is ready. */
export function kindUp(options: KindOptions): Report {
  const { cluster = standardCluster, archive } = options
  requirePrograms(['kind', 'kubectl'])
  const engine = requireEngine()
  const env = kindEnvironment(engine)
  const image = imageOf(options)
  const [input, manifest] = [kindConfig(options), kindManifest({ ...options, cluster })]
  requireImage(image, archive, engine)
  if (must(['kind', 'get', 'clusters'], { env }).split('\n').includes(cluster))
    throw new CliError('conflict', `cluster "${cluster}" exists already`, `ns-net kind down --cluster ${cluster}`)
  told(`kind: creating cluster "${cluster}"`)
  // No --wait: nodes cannot become ready before we run on them (kind #3353).
  must(['kind', 'create', 'cluster', '--name', cluster, '--config', '-'], { env, input })
  const hint = `the cluster is there: ns-net kind down --cluster ${cluster} deletes it`
  told(`kind: loading ${archive ?? image}`)
  const load = archive === undefined ? ['docker-image', image] : ['image-archive', archive]
  must(['kind', 'load', ...load, '--name', cluster], { env, hint })
  const kubectl = ['kubectl', '--context', `kind-${cluster}`]
  must([...kubectl, 'apply', '-f', '-'], { input: manifest, hint })
  told('kubectl: waiting for the nodes')
  must([...kubectl, 'wait', '--for=condition=Ready', 'node', '--all', '--timeout=180s'], {
    hint: `what the agents say: ${kubectl.join(' ')} -n kube-system logs daemonset/ns-net; ${hint}`,
  })
  const text = `cluster "${cluster}" is ready; ns-net kind check tries its network\n`
  return { json: { cluster, image, engine, ready: true }, text }
}

export function kindDown({ cluster = standardCluster }: KindOptions): Report {
  requirePrograms(['kind'])
  must(['kind', 'delete', 'cluster', '--name', cluster], { env: kindEnvironment(requireEngine()) })
  return { json: { cluster, deleted: true }, text: `${cluster}  deleted\n` }
}

export interface CheckOptions {
  readonly image?: string
  /** A URL outside that answers with the address it sees. */
  readonly outside?: readonly string[]
  readonly keep?: boolean
}

/** Tries the network of the cluster that kubectl talks to. */
export function kindCheck({ image, outside = [], keep = false }: CheckOptions): Report {
  requirePrograms(['kubectl'])
  const nodes = JSON.parse(must(['kubectl', 'get', 'nodes', '-o', 'json'])).items as NodeJson[]
  const names = nodes.map(({ metadata }) => metadata.name)
  if (names.length === 0) throw new CliError('notFound', 'the cluster has no nodes')
  const cidrs = nodes[0]?.spec.podCIDRs ?? []
  const families = ([4, 6] as const).filter((family) => cidrs.some((cidr) => cidr.includes(':') === (family === 6)))
  // Workers first: a control plane may be the only other one.
  const ordered = names.toSorted((a, b) => Number(/control-plane/.test(a)) - Number(/control-plane/.test(b)))
  const items = checkDocuments(imageOf({ image }), ordered, families)
  // One of before may still be about to go, and takes nothing new then.
  must(['kubectl', 'delete', 'namespace', checkNamespace, '--ignore-not-found', '--timeout=120s'])
  try {
    must(['kubectl', 'apply', '-f', '-'], { input: JSON.stringify({ apiVersion: 'v1', kind: 'List', items }) })
    must(['kubectl', '-n', checkNamespace, 'wait', '--for=condition=Ready', 'pod', '--all', '--timeout=180s'], {
      hint: `--keep leaves the pods: kubectl -n ${checkNamespace} describe pods`,
    })
    const rows: Row[] = [...runChecks(), checkDns(), ...outside.map(checkOutside)]
    return report(rows)
  } finally {
    if (!keep) run(['kubectl', 'delete', 'namespace', checkNamespace, '--wait=false', '--ignore-not-found'])
  }
}

interface NodeJson {
  readonly metadata: { readonly name: string }
  readonly spec: { readonly podCIDRs?: readonly string[] }
}

function report(rows: readonly Row[]): Report {
  const cells = rows.map(({ check, family, ok, seen }) => [check, `v${family}`, ok ? 'ok' : 'FAIL', seen])
  return { json: rows, text: table(['CHECK', 'IP', 'RESULT', 'SEEN'], cells), negative: rows.some(({ ok }) => !ok) }
}
