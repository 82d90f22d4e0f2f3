import { expect, test } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { createHost, executables, type Host } from '../host.ts'
import { createStandIns, type StandIns } from './stand-ins.ts'

/* `kind up`, `load` and `down`, with programs that stand in for kind and its companions: what they are asked, in which order. */

const kind = (host: Host, { env }: StandIns, args: readonly string[], more: Record<string, string> = {}) =>
  host.run([`${executables}/ns-net`, 'kind', ...args], { env: { ...env, ...more }, expectFailure: 'maybe' })

const steps = (...load: string[]) => [
  'kind get clusters',
  'kind create cluster --name lab --config -',
  `kind load ${load.join(' ')} --name lab`,
  'kubectl --context kind-lab apply -f -',
  'kubectl --context kind-lab wait --for=condition=Ready node --all --timeout=180s',
]

test('up makes a cluster, loads the image, applies the manifest and waits, in this order', () => {
  using host = createHost()
  const programs = createStandIns(host, ['kind', 'kubectl', 'docker'])
  const up = kind(host, programs, [
    'up',
    '--cluster',
    'lab',
    '--workers',
    '1',
    '--mode',
    'bridge',
    '--image',
    'a/b:3',
    '--json',
  ])
  expect(up).toMatchObject({ status: 0 })
  expect(JSON.parse(up.stdout)).toEqual({ cluster: 'lab', image: 'a/b:3', engine: 'docker', ready: true })
  expect(programs.calls()).toEqual(['docker image inspect a/b:3', ...steps('docker-image', 'a/b:3')])
  expect(programs.stdin('kind')).toContain('disableDefaultCNI: true')
  const daemonSet = parseAllDocuments(programs.stdin('kubectl')).at(-1)!.toJS()
  const [container] = daemonSet.spec.template.spec.containers
  expect(container).toMatchObject({ image: 'a/b:3', command: expect.arrayContaining(['--mode', 'bridge']) })
  expect(container.env).toContainEqual({ name: 'CONTROL_PLANE_ENDPOINT', value: 'lab-control-plane:6443' })
})

test('with an archive no engine is asked for the image', () => {
  using host = createHost()
  const programs = createStandIns(host, ['kind', 'kubectl', 'docker'])
  host.run(['touch', '/run/a.tar'])
  expect(kind(host, programs, ['up', '--cluster', 'lab', '--archive', '/run/a.tar'])).toMatchObject({ status: 0 })
  expect(programs.calls()).toEqual(steps('image-archive', '/run/a.tar'))
})

test.each([
  ['it is all there is', ['kind', 'kubectl', 'podman'], {}],
  ['kind has been told so', ['kind', 'kubectl', 'podman', 'docker'], { KIND_EXPERIMENTAL_PROVIDER: 'podman' }],
])('podman, when %s', (_, names, more) => {
  using host = createHost()
  const programs = createStandIns(host, names)
  // kind asks docker for images, whatever its provider is.
  expect(kind(host, programs, ['up', '--cluster', 'lab'], more)).toMatchObject({
    status: 6,
    stderr: expect.stringMatching(/^ns-net: kind loads no images from podman\nhint: .*--archive/),
  })
  expect(programs.calls()).toEqual([])
  host.run(['touch', '/run/a.tar'])
  expect(kind(host, programs, ['up', '--cluster', 'lab', '--archive', '/run/a.tar'], more)).toMatchObject({ status: 0 })
  const told = programs.calls().filter((call) => !call.includes('kubectl'))
  expect(told).toHaveLength(3)
  for (const call of told) expect(call).toMatch(/^KIND_EXPERIMENTAL_PROVIDER=podman kind /)
  kind(host, programs, ['down', '--cluster', 'lab'], more)
  expect(programs.calls().at(-1)).toBe('KIND_EXPERIMENTAL_PROVIDER=podman kind delete cluster --name lab')
})

test('what is missing is told before anything is made', () => {
  using host = createHost()
  const programs = createStandIns(host, ['kind', 'kubectl'])
  const up = (...args: string[]) => kind(host, programs, ['up', '--cluster', 'lab', ...args])
  expect(up()).toMatchObject({ status: 6, stderr: expect.stringContaining('not installed: docker') })
  programs.set('docker', 'echo "Error: No such image: a:1" >&2; exit 1')
  expect(up('--image', 'a:1')).toMatchObject({
    status: 8,
    stderr: expect.stringMatching(
      /^Error: No such image: a:1\nns-net: docker image inspect a:1 failed with exit code 1\nhint: docker build -t a:1/,
    ),
  })
  expect(up('--archive', '/run/none.tar')).toMatchObject({
    status: 3,
    stderr: expect.stringContaining('there is no archive /run/none.tar\nhint: npm run image -- /run/none.tar'),
  })
  expect(up('--workers', 'many').status).toBe(2)
  expect(programs.calls()).toEqual(['docker image inspect a:1'])
})

test('a cluster of that name is left alone', () => {
  using host = createHost()
  const programs = createStandIns(host, ['kubectl', 'docker'])
  programs.set('kind', 'echo other; echo lab')
  expect(kind(host, programs, ['up', '--cluster', 'lab'])).toMatchObject({
    status: 4,
    stderr: expect.stringContaining('cluster "lab" exists already\nhint: ns-net kind down --cluster lab'),
  })
  expect(programs.calls().at(-1)).toBe('kind get clusters')
  expect(kind(host, programs, ['up', '--cluster', 'la'])).toMatchObject({ status: 0 })
})

/** The program that fails, with which arguments, after how many calls nothing more comes, and what helps. */
test.each([
  ['kind', 'get clusters', 2, /kind get clusters failed with exit code 3\n$/],
  ['kind', 'create *', 3, /kind create cluster --name lab --config - failed with exit code 3\n$/],
  [
    'kind',
    'load *',
    4,
    /kind load docker-image \S+ --name lab failed with exit code 3\nhint: .*ns-net kind down --cluster lab/,
  ],
  ['kubectl', '*apply*', 5, /kubectl --context kind-lab apply -f - failed with exit code 3\nhint: .*kind down/],
  [
    'kubectl',
    '*wait*',
    6,
    /wait .* failed with exit code 3\nhint: .*-n kube-system logs daemonset\/ns-net; .*kind down/,
  ],
] as const)('up ends where "%s %s" fails, and says what helps', (program, failing, calls, words) => {
  using host = createHost()
  const programs = createStandIns(host, ['kind', 'kubectl', 'docker'])
  programs.set(program, `case "$*" in ${failing.replaceAll(' ', '\\ ')}) echo "the reason" >&2; exit 3 ;; esac`)
  const up = kind(host, programs, ['up', '--cluster', 'lab'])
  expect(up).toMatchObject({ status: 8, stdout: '', stderr: expect.stringMatching(words) })
  expect(up.stderr).toContain('the reason')
  expect(programs.calls()).toHaveLength(calls)
})

test('down deletes the cluster, and says when kind does not', () => {
  using host = createHost()
  const programs = createStandIns(host, ['kind', 'docker'])
  expect(kind(host, programs, ['down'])).toMatchObject({ status: 0, stdout: 'ns-net  deleted\n' })
  expect(programs.calls()).toEqual(['kind delete cluster --name ns-net'])
  programs.set('kind', 'exit 1')
  expect(kind(host, programs, ['down', '--cluster', 'lab'])).toMatchObject({
    status: 8,
    stderr: 'ns-net: kind delete cluster --name lab failed with exit code 1\n',
  })
})
