import { expect, test } from 'vitest'
import { CniError } from './errors.ts'
import { formatArgs, parseEnvironment, parseRequest, requestedDns, requireKnownArgs } from './request.ts'

const complete = {
  CNI_COMMAND: 'ADD',
  CNI_CONTAINERID: 'c1',
  CNI_NETNS: '/run/netns/c1',
  CNI_IFNAME: 'eth0',
  CNI_PATH: '/opt/cni/bin:/usr/lib/cni',
}

function failureOf(work: () => unknown): { code: number; message: string; details?: string } {
  try {
    work()
  } catch (error) {
    if (error instanceof CniError) return { code: error.code, message: error.message, details: error.details }
    throw error
  }
  throw new Error('expected a CniError')
}

test('a complete environment', () => {
  expect(parseEnvironment({ ...complete, CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAME=web' })).toEqual({
    command: 'ADD',
    containerId: 'c1',
    netns: '/run/netns/c1',
    ifName: 'eth0',
    args: new Map([
      ['IgnoreUnknown', '1'],
      ['K8S_POD_NAME', 'web'],
    ]),
    path: ['/opt/cni/bin', '/usr/lib/cni'],
    netnsOverride: false,
  })
})

test.each([
  ['ADD', 'CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH'],
  ['CHECK', 'CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH'],
  ['DEL', 'CNI_CONTAINERID,CNI_IFNAME,CNI_PATH'],
  ['GC', 'CNI_PATH'],
  ['STATUS', 'CNI_PATH'],
])('%s names all missing variables at once', (command, missing) => {
  expect(failureOf(() => parseEnvironment({ CNI_COMMAND: command }))).toMatchObject({
    code: 4,
    message: `required env variables [${missing}] missing`,
  })
})

test('DEL works without a namespace', () => {
  const { CNI_NETNS: _, ...rest } = complete
  expect(parseEnvironment({ ...rest, CNI_COMMAND: 'DEL' }).netns).toBe('')
})

test.each([
  [{ CNI_COMMAND: 'PLUG' }, 'unknown CNI_COMMAND: PLUG'],
  [{ CNI_CONTAINERID: '../c1' }, 'invalid characters in containerID'],
  [{ CNI_CONTAINERID: '.c1' }, 'invalid characters in containerID'],
  [{ CNI_IFNAME: 'sixteen-bytes-xx' }, 'interface name is too long'],
  [{ CNI_IFNAME: 'ünïcödë-nämë' }, 'interface name is too long'],
  [{ CNI_IFNAME: '..' }, 'interface name is . or ..'],
  [{ CNI_IFNAME: 'a/b' }, 'interface name contains / or : or whitespace characters'],
  [{ CNI_IFNAME: 'a b' }, 'interface name contains / or : or whitespace characters'],
])('%j is refused with code 4', (wrong, message) => {
  expect(failureOf(() => parseEnvironment({ ...complete, ...wrong }))).toMatchObject({ code: 4, message })
})

const request = (json: unknown, variables: Record<string, string> = {}) =>
  parseRequest(parseEnvironment({ ...complete, ...variables }), typeof json === 'string' ? json : JSON.stringify(json))

test('the version gate is exact, and an absent version is 0.1.0', () => {
  expect(request({ name: 'n' }).cniVersion).toBe('0.1.0')
  expect(request({ name: 'n', cniVersion: '1.1.0' }).cniVersion).toBe('1.1.0')
  for (const cniVersion of ['1.2.0', '1.1', 'x', '0.3.2'])
    expect(failureOf(() => request({ name: 'n', cniVersion }))).toMatchObject({
      code: 1,
      message: 'incompatible CNI versions',
    })
})

test.each([
  ['CHECK', '0.3.1', 'config version does not allow CHECK'],
  ['GC', '1.0.0', 'config version does not allow GC'],
  ['STATUS', '0.4.0', 'config version does not allow STATUS'],
])('%s with %s', (command, cniVersion, message) => {
  expect(failureOf(() => request({ name: 'n', cniVersion }, { CNI_COMMAND: command }))).toMatchObject({
    code: 1,
    message,
  })
})

test.each([
  ['{', 6, /^cannot decode the configuration on stdin/],
  ['[]', 6, /expected a JSON object/],
  [{}, 7, /^missing network name$/],
  [{ name: '' }, 7, /^missing network name$/],
  [{ name: '../etc' }, 7, /^invalid characters found in network name$/],
])('%j', (json, code, message) => {
  const failure = failureOf(() => request(json))
  expect(failure.code).toBe(code)
  expect(failure.message).toMatch(message)
})

test('keys match without regard to case, as in Go', () => {
  expect(request({ Name: 'n', CNIVERSION: '1.0.0' })).toMatchObject({ network: 'n', cniVersion: '1.0.0' })
})

test.each([
  ['K8S_POD_NAME=web', 'CNI_ARGS: unknown args ["K8S_POD_NAME=web"]'],
  ['IP', 'CNI_ARGS: invalid pair "IP"'],
  ['A=b=c;IgnoreUnknown=1', 'CNI_ARGS: invalid pair "A=b=c"'],
  ['IgnoreUnknown=perhaps', 'CNI_ARGS: IgnoreUnknown: expected 0, 1, true or false, got "perhaps"'],
])('CNI_ARGS %s are refused by an ADD that reads some, and go through unchanged', (text, message) => {
  const json = { name: 'n', cniVersion: '1.0.0' }
  const add = request(json, { CNI_ARGS: text })
  expect(failureOf(() => requireKnownArgs(add))).toMatchObject({ code: 4, message })
  expect(formatArgs(add.args)).toBe(text)
  requireKnownArgs(request(json, { CNI_COMMAND: 'DEL', CNI_ARGS: text }))
})

test('IgnoreUnknown lets unknown CNI_ARGS pass', () => {
  const add = request({ name: 'n' }, { CNI_ARGS: 'IgnoreUnknown=true;K8S_POD_NAME=web' })
  requireKnownArgs(add)
  expect(add.args.get('K8S_POD_NAME')).toBe('web')
})

test('an unreadable prevResult stops ADD but not DEL', () => {
  const json = { name: 'n', cniVersion: '1.0.0', prevResult: { cniVersion: '0.2.0', ip4: {} } }
  expect(failureOf(() => request(json))).toMatchObject({ code: 6 })
  expect(request(json, { CNI_COMMAND: 'DEL' }).prevResult).toBeUndefined()
})

test('GC reads the list of valid attachments in both spellings', () => {
  const valid = [{ containerID: 'c1', ifname: 'eth0' }]
  for (const key of ['cni.dev/valid-attachments', 'cni.dev/attachments'])
    expect(request({ name: 'n', cniVersion: '1.1.0', [key]: valid }, { CNI_COMMAND: 'GC' }).validAttachments).toEqual([
      { containerId: 'c1', ifName: 'eth0' },
    ])
})

test('the dns capability replaces the configured dns', () => {
  const dns = { nameservers: ['10.0.0.53'] }
  const runtimeConfig = { dns: { servers: ['192.0.2.53'], searches: ['example.org'] } }
  expect(requestedDns(request({ name: 'n', dns }))).toMatchObject(dns)
  expect(requestedDns(request({ name: 'n', dns, runtimeConfig }))).toEqual({
    nameservers: ['192.0.2.53'],
    search: ['example.org'],
    options: undefined,
  })
})
