import { expect, test } from 'vitest'
import { createHost, executables, type Host, referencePlugins, requireTool } from './host.ts'

const path = `/run/plugins:${executables}`

/** An IPAM executable that writes down how it was called and answers as told. */
function installIpam(host: Host, answer: string): void {
  host.sh(`mkdir -p /run/plugins
           cat > /run/plugins/our-ipam <<'END'
#!/bin/sh
{ env | grep ^CNI_ | sort | tr '\\n' ' '; cat; echo; } >> /run/calls
echo "ipam says hello" >&2
${answer}
END
           chmod +x /run/plugins/our-ipam`)
}

function bridgeCall(host: Host, ipam: object) {
  const container = host.addContainer('c1')
  const config = { cniVersion: '1.0.0', name: 'n1', type: 'bridge', bridge: 'br0', extra: { kept: true }, ipam }
  return { config, containerId: 'c1', netns: container.path, ifName: 'eth0', path, args: 'IgnoreUnknown=1;A=b' }
}

test('a foreign IPAM gets the whole configuration and the same environment, and its answer is applied', () => {
  using host = createHost()
  installIpam(
    host,
    `[ $CNI_COMMAND != ADD ] || echo '{"cniVersion":"1.0.0","ips":[{"address":"10.3.0.7/24","gateway":"10.3.0.1"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{"nameservers":["10.3.0.53"]}}'`,
  )
  const call = bridgeCall(host, { type: 'our-ipam', own: 'key' })
  const { json, stderr } = host.cni('bridge', 'ADD', call)
  expect(json.ips).toEqual([{ interface: 2, address: '10.3.0.7/24', gateway: '10.3.0.1' }])
  expect(json.dns).toEqual({ nameservers: ['10.3.0.53'] })
  expect(stderr).toContain('ipam says hello')
  expect(host.json(['ip', '-j', '-n', 'c1', 'addr', 'show', 'eth0'])[0].addr_info[0]).toMatchObject({
    local: '10.3.0.7',
  })
  host.cni('bridge', 'CHECK', { ...call, config: { ...call.config, prevResult: json } })
  host.cni('bridge', 'DEL', call)
  const calls = host.run(['cat', '/run/calls']).stdout.trimEnd().split('\n')
  expect(calls.map((line) => /CNI_COMMAND=(\w+)/.exec(line)![1])).toEqual(['ADD', 'CHECK', 'DEL'])
  for (const line of calls) {
    expect(line).toContain(`CNI_ARGS=${call.args}`)
    expect(line).toContain(`CNI_CONTAINERID=c1`)
    expect(line).toContain(`CNI_IFNAME=eth0`)
    expect(line).toContain(`CNI_NETNS=${call.netns} CNI_PATH=${path}`)
    expect(JSON.parse(line.slice(line.indexOf('{')))).toMatchObject(call.config)
  }
})

test('what a foreign IPAM refuses is passed on with its code, DEL follows, and nothing is left', () => {
  using host = createHost()
  installIpam(
    host,
    `[ $CNI_COMMAND != ADD ] || { echo '{"cniVersion":"1.0.0","code":77,"msg":"no more addresses"}'; exit 1; }`,
  )
  const call = bridgeCall(host, { type: 'our-ipam' })
  // With a port of its own already, as a bridge takes on properties of its first.
  host.sh(`ip link add br0 address 02:00:00:00:00:01 up type bridge
           ip link add veth-other master br0 type veth peer name veth-peer`)
  const before = host.snapshot()
  expect(host.cni('bridge', 'ADD', { ...call, expectFailure: true }).json).toMatchObject({
    code: 77,
    msg: 'no more addresses',
  })
  expect(host.run(['grep', '-o', 'CNI_COMMAND=[A-Z]*', '/run/calls']).stdout).toBe('CNI_COMMAND=ADD\nCNI_COMMAND=DEL\n')
  expect(host.snapshot()).toEqual(before)
})

test.for([
  ['prints no JSON', 'echo oops', 105, /did not print a CNI result/],
  ['dies', 'kill -9 $$', 105, /failed with killed by SIGKILL/],
  ['gives no address', `[ $CNI_COMMAND != ADD ] || echo '{"cniVersion":"1.0.0"}'`, 7, /missing IP config/],
] as const)('an IPAM that %s', ([, answer, code, message]) => {
  using host = createHost()
  installIpam(host, answer)
  const { json } = host.cni('bridge', 'ADD', { ...bridgeCall(host, { type: 'our-ipam' }), expectFailure: true })
  expect(json).toMatchObject({ code, msg: expect.stringMatching(message) })
  expect(host.json(['ip', '-j', '-n', 'c1', 'link'])).toHaveLength(1)
})

test("the reference's host-local under another name serves bridge and ptp", (context) => {
  requireTool('ping', context)
  using host = createHost()
  host.sh(`mkdir -p /run/plugins
           [ ! -x ${referencePlugins}/host-local ] || cp ${referencePlugins}/host-local /run/plugins/their-ipam`)
  if (host.run(['test', '-x', '/run/plugins/their-ipam'], { expectFailure: 'maybe' }).status !== 0) {
    if (process.env.CI) throw new Error('the reference plugins are not installed')
    context.skip('the reference plugins are not installed')
  }
  const container = host.addContainer('c1')
  const ipam = { type: 'their-ipam', subnet: '10.4.0.0/24', routes: [{ dst: '0.0.0.0/0' }] }
  for (const type of ['bridge', 'ptp']) {
    const config = { cniVersion: '1.0.0', name: type, type, isGateway: true, ipam }
    const call = { config, containerId: 'c1', netns: container.path, ifName: 'eth0', path }
    host.cni(type, 'ADD', call)
    container.run(['ping', '-c1', '-W2', '10.4.0.1'])
    host.cni(type, 'DEL', call)
    host.run(['ip', 'link', 'del', 'cni0'], { expectFailure: 'maybe' })
  }
  expect(host.run(['find', '/var/lib/cni', '-name', '10.4.*']).stdout).toBe('')
})

test('an IPAM that reads nothing of a long configuration has its say', () => {
  using host = createHost()
  host.sh(`mkdir -p /run/plugins
           printf '#!/bin/sh\\n[ $CNI_COMMAND != ADD ] || echo "{\\\\"cniVersion\\\\":\\\\"1.0.0\\\\",\\\\"ips\\\\":[{\\\\"address\\\\":\\\\"10.3.0.7/24\\\\"}]}"\\n' > /run/plugins/our-ipam
           chmod +x /run/plugins/our-ipam`)
  const call = bridgeCall(host, { type: 'our-ipam', long: 'x'.repeat(300_000) })
  expect(host.cni('bridge', 'ADD', call).json.ips).toMatchObject([{ address: '10.3.0.7/24' }])
})
