import fs from 'node:fs'
import path from 'node:path'
import { CliError } from '../errors.ts'

/** Where the API server of Kubernetes is, and how to be let in. What comes from files is read again for every request. */
export interface ApiAccess {
  /** `https://10.96.0.1:443`. */
  readonly server: string
  /** Certificates of the authorities to believe; the system's when undefined. */
  ca(): string | undefined
  token(): string | undefined
  /** Of a client that proves itself by a certificate. */
  clientCertificate(): { readonly cert: string; readonly key: string } | undefined
}

const serviceAccount = '/var/run/secrets/kubernetes.io/serviceaccount'

const read = (file: string) => fs.readFileSync(file, 'utf8')

/**
 * As a pod of the cluster: the kubelet mounts CA and token, and changes the token before it expires (every hour or so).
 * CONTROL_PLANE_ENDPOINT (`HOST:PORT`) goes before the service's address, which works only where kube-proxy does already.
 */
export function accessInCluster(environment: NodeJS.ProcessEnv = process.env, folder = serviceAccount): ApiAccess {
  const { CONTROL_PLANE_ENDPOINT, KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = '443' } = environment
  const place = CONTROL_PLANE_ENDPOINT || (host && `${host.includes(':') ? `[${host}]` : host}:${port}`)
  if (!place)
    throw new CliError(
      'usage',
      'no API server: neither KUBERNETES_SERVICE_HOST nor CONTROL_PLANE_ENDPOINT is set',
      'run it in a pod of the cluster, or give --kubeconfig FILE',
    )
  return {
    server: `https://${place}`,
    ca: () => read(`${folder}/ca.crt`),
    token: () => read(`${folder}/token`).trim(),
    clientCertificate: () => undefined,
  }
}

type Entry = Readonly<Record<string, unknown>>

/** The current context of a kubeconfig: server, CA, and a token or a client certificate, each in the file or beside it. */
export async function accessOf(kubeconfig: string): Promise<ApiAccess> {
  const { parse } = await import('yaml')
  const config = parse(readConfig(kubeconfig)) as Entry
  const named = (list: string, name: unknown, part: string): Entry => {
    const found = (config[list] as Entry[] | undefined)?.find((entry) => entry.name === name)?.[part] as Entry
    if (found) return found
    throw new CliError('usage', `${kubeconfig}: no ${part} named "${name}"`, 'kubectl config view shows what it has')
  }
  const context = named('contexts', config['current-context'], 'context')
  const cluster = named('clusters', context.cluster, 'cluster')
  const user = named('users', context.user, 'user')
  const { server } = cluster
  if (typeof server !== 'string' || !server.startsWith('https://'))
    throw new CliError('usage', `${kubeconfig}: server "${server}" is no https:// address`)

  /** `KEY-data` in base64, else the file that `KEY` names. */
  const content = (entry: Entry, key: string): string | undefined => {
    const data = entry[`${key}-data`]
    if (data) return Buffer.from(String(data), 'base64').toString('utf8')
    return entry[key] ? read(path.resolve(path.dirname(kubeconfig), String(entry[key]))) : undefined
  }
  return {
    server: server.replace(/\/$/, ''),
    ca: () => content(cluster, 'certificate-authority'),
    token: () => (user.tokenFile ? read(String(user.tokenFile)).trim() : (user.token as string | undefined)),
    clientCertificate() {
      const [cert, key] = [content(user, 'client-certificate'), content(user, 'client-key')]
      return cert && key ? { cert, key } : undefined
    },
  }
}

function readConfig(file: string): string {
  try {
    return read(file)
  } catch (error) {
    throw new CliError('notFound', `cannot read kubeconfig ${file}: ${(error as Error).message}`)
  }
}
