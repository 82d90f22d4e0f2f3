import type { CniCall, CniResult, Container, Host } from './host.ts'

/** One plugin of a list, and what a runtime would grant it for its capabilities. */
export type Plugin = Readonly<Record<string, unknown>> & { readonly type: string }

/** A container that a list of plugins has connected, each called as a runtime calls it. */
export interface Attached extends Container {
  /** What the last plugin said. */
  readonly result: { readonly ips: readonly { readonly address: string }[] }
  /** CHECK or DEL of one plugin, with the result. */
  call(command: 'CHECK' | 'DEL', type: string, options?: Partial<CniCall>): CniResult
  /** DEL of one plugin by a runtime that has lost everything but the names. */
  delByName(type: string): void
  /** Writes the record of the attachment that libcni keeps, which `ns-net reload` goes by. */
  record(): void
}

const cniVersion = '1.1.0'

/** `env` is that of every call. */
export function attach(
  host: Host,
  name: string,
  network: string,
  plugins: readonly Plugin[],
  env: Readonly<Record<string, string>> = {},
): Attached {
  const container = host.addContainer(name)
  const names = { containerId: name, netns: container.path, ifName: 'eth0' }
  const configOf = (plugin: Plugin) => ({ cniVersion, name: network, ...plugin })
  let result: Attached['result'] | undefined
  for (const plugin of plugins)
    result = host.cni(plugin.type, 'ADD', { ...names, config: { ...configOf(plugin), prevResult: result }, env }).json
  const find = (type: string) => configOf(plugins.find((plugin) => plugin.type === type)!)
  return {
    ...container,
    result: result!,
    call: (command, type, options) =>
      host.cni(type, command, { ...names, config: { ...find(type), prevResult: result }, env, ...options }),
    delByName: (type) => void host.cni(type, 'DEL', { ...names, netns: undefined, config: find(type), env }),
    record() {
      const granted = plugins.find(({ runtimeConfig }) => runtimeConfig)?.runtimeConfig
      const list = { cniVersion, name: network, plugins: plugins.map(({ runtimeConfig: _, ...plugin }) => plugin) }
      const content = {
        ...{ kind: 'cniCacheV1', networkName: network, ...names, result, capabilityArgs: granted },
        config: Buffer.from(JSON.stringify(list)).toString('base64'),
      }
      const file = `/var/lib/cni/results/${network}-${name}-eth0`
      host.run(['sh', '-c', `mkdir -p /var/lib/cni/results; cat >${file}`], { input: JSON.stringify(content) })
    },
  }
}

/** A bridge that gives addresses of both families from `10.<n>.0.0/24` and `fd00:<n>::/64`, without translation. */
export const bridge = (n: number): Plugin => ({
  type: 'bridge',
  bridge: `br${n}`,
  isDefaultGateway: true,
  ipam: { type: 'host-local', ranges: [[{ subnet: `10.${n}.0.0/24` }], [{ subnet: `fd00:${n}::/64` }]] },
})

/** The addresses that it got, without their prefix lengths. */
export const addressesOf = ({ result }: Attached): string[] => result.ips.map(({ address }) => address.split('/')[0]!)
