import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { pluginNames } from '../scripts/executables.mjs'
import { createHost, executables } from './host.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

/** A host that has the executables and neither the checkout nor anything in /tmp. */
function hostWithExecutablesOnly() {
  const host = createHost({ cniPath: '/run/cni' })
  host.sh(`mkdir /run/cni
           cp -a ${executables}/. /run/cni/
           mount -t tmpfs tmpfs ${root}
           mount -t tmpfs tmpfs /tmp`)
  return host
}

test('the folder of executables is enough: no Node, no node_modules, nothing unpacked', () => {
  using host = hostWithExecutablesOnly()
  const container = host.addContainer('web')
  const config = { cniVersion: '1.0.0', name: 'lo', type: 'loopback' }
  const noNode = { PATH: '/nonexistent' }

  for (const name of pluginNames)
    expect(host.cni(name, 'VERSION', { config, env: noNode }).json.supportedVersions, name).toContain('1.1.0')
  host.cni('loopback', 'ADD', { config, containerId: 'web', netns: container.path, ifName: 'lo', env: noNode })

  expect(container.json(['ip', '-json', 'link', 'show', 'up'])).toMatchObject([{ ifname: 'lo' }])
  expect(host.run(['ls', '-A', '/tmp']).stdout).toBe('')
})
