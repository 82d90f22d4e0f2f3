import { readFileSync, writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { createHost, executables, type Host, requireTool } from './host.ts'

/*
 * A node that starts again: 64 containers at once on one bridge, and later all of them gone at once. Judged by ip(8),
 * nft(8), iptables-save(8) and the files on disk.
 */

const ids = Array.from({ length: 64 }, (_, n) => `c${n}`)
const hostPort = (n: number) => 20_000 + n

interface Plugin {
  readonly type: string
  readonly backend?: string
  readonly ipMasqBackend?: string
}

const bridge = {
  cniVersion: '1.1.0',
  name: 'lab',
  type: 'bridge',
  bridge: 'br1',
  isDefaultGateway: true,
  ipMasq: true,
  ipam: { type: 'host-local', ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00:1::/64' }]] },
}
const portmap = { cniVersion: '1.1.0', name: 'lab', type: 'portmap' }

const lists: Readonly<Record<string, readonly Plugin[]>> = {
  'bridge with ipMasq': [bridge],
  'bridge with ipMasq and portmap': [bridge, portmap],
  'bridge with ipMasq and portmap, by iptables': [
    { ...bridge, ipMasqBackend: 'iptables' },
    { ...portmap, backend: 'iptables' },
  ],
}

const mappings = (n: number) => ({
  runtimeConfig: {
    portMappings: ['tcp', 'udp'].map((protocol) => ({ hostPort: hostPort(n), containerPort: 80, protocol })),
  },
})

/** A configuration but its last brace: prevResult is put behind it. */
const opening = (plugin: Plugin, n: number) => JSON.stringify({ ...plugin, ...mappings(n) }).slice(0, -1)

/** One verb of all plugins for all containers at the same time; what failed or was said on stderr. */
function all(host: Host, command: 'ADD' | 'DEL', plugins: readonly Plugin[]): string {
  for (const [n, id] of ids.entries())
    for (const plugin of plugins) writeFileSync(host.file(`/run/${id}.${plugin.type}`), opening(plugin, n))
  const script = `
    export CNI_COMMAND=${command} CNI_IFNAME=eth0 CNI_PATH=${executables}
    plugins() {
      for type in "$@"; do
        { cat /run/$id.$type; if [ -s /run/$id.result ]; then echo ', "prevResult":'; cat /run/$id.result; fi; echo '}'; } |
          ${executables}/$type >/run/$id.next 2>/run/$id.stderr || return 1
        [ ! -s /run/$id.stderr ] || return 1
        [ $CNI_COMMAND = DEL ] || mv /run/$id.next /run/$id.result
      done
    }
    for id in ${ids.join(' ')}; do
      export id CNI_CONTAINERID=$id CNI_NETNS=/run/netns/$id
      plugins "$@" || echo "$id: $(cat /run/$id.next /run/$id.stderr)" &
    done
    wait`
  const types = plugins.map(({ type }) => type)
  const order = command === 'ADD' ? types : types.toReversed()
  return host.run(['sh', '-c', script, 'sh', ...order], { timeout: 120_000 }).stdout
}

test.for(Object.entries(lists))('%s: 64 at once come and go', { timeout: 240_000 }, ([name, plugins], context) => {
  for (const tool of ['nft', 'iptables-save']) requireTool(tool, context)
  using host = createHost()
  for (const id of ['first', ...ids]) host.addContainer(id)
  // Makes what they share; and the chains that iptables makes at its first use stay.
  let prevResult: object | undefined
  for (const plugin of plugins) {
    const config = { ...plugin, ...mappings(ids.length), prevResult }
    const call = { config, containerId: 'first', netns: '/run/netns/first', ifName: 'eth0' }
    prevResult = host.cni(plugin.type, 'ADD', call).json
  }
  const before = host.snapshot({ ignoreLeaseMarks: true })

  expect(all(host, 'ADD', plugins)).toBe('')
  const results = ids.map((id) => JSON.parse(readFileSync(host.file(`/run/${id}.result`), 'utf8')))
  const told = results.flatMap(({ ips }) => ips.map(({ address }: { address: string }) => address.split('/')[0]))
  const found = ids.flatMap((id) =>
    host
      .json(['ip', '-json', '-netns', id, 'address', 'show', 'dev', 'eth0', 'scope', 'global'])[0]
      .addr_info.flatMap(({ local }: { local?: string }) => local ?? []),
  )
  expect(found.sort()).toEqual(told.sort())
  expect(new Set(found).size).toBe(2 * ids.length)
  expect(host.json(['ip', '-json', 'link', 'show', 'master', 'br1'])).toHaveLength(ids.length + 1)
  if (name.includes('portmap')) {
    const rules = host.run(['nft', 'list', 'ruleset']).stdout
    const ports = ids.map((_, n) => hostPort(n))
    expect(ports.filter((port) => !new RegExp(`\\b${port}\\b`).test(rules))).toEqual([])
  }

  expect(all(host, 'DEL', plugins)).toBe('')
  expect(host.snapshot({ ignoreLeaseMarks: true })).toEqual(before)
  for (const id of ids) expect(host.json(['ip', '-json', '-netns', id, 'link']), id).toHaveLength(1)
})
