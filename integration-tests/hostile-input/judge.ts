import type { Call, callsOf, Document } from './cases.ts'

export interface Outcome {
  readonly status: number | null
  readonly signal: string | null
  readonly failure?: string
  readonly stdout: string
  readonly stderr: string
  readonly milliseconds: number
  readonly left: { readonly links: string[]; readonly inside: string[]; readonly files: string[] }
}

const versions = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0']
const isStack = (text: string) => /^\s+at .+[:(]/m.test(text) || /Bun v|panic|[Ss]egmentation|\bcore dumped/.test(text)

export function parsed(text: string): Document | undefined {
  try {
    const value = JSON.parse(Buffer.from(text, 'latin1').toString('utf8'))
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined
  } catch {
    return undefined // what the caller then says
  }
}

/** What is wrong with the end of one call. */
export function problemsOf(call: Call, { status, signal, failure, stdout, stderr, milliseconds }: Outcome): string[] {
  const problems: string[] = []
  const wrong = (what: string) => problems.push(what)
  if (failure) wrong(`did not end by itself: ${failure}`)
  else if (signal) wrong(`died of ${signal}`)
  else if (status !== 0 && status !== 1) wrong(`exit code ${status}`)
  if (milliseconds > 5000) wrong(`took ${milliseconds} ms`)
  if (isStack(stderr)) wrong('a stack trace on stderr')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what a terminal would act on
  if (/[\x00-\x08\x0b-\x1f\x7f]/.test(stderr)) wrong('control characters on stderr')
  const verb = call.raw?.CNI_COMMAND ? 'none' : (call.env.CNI_COMMAND ?? '')
  if (status === 0) {
    const json = parsed(stdout)
    if (verb === 'ADD' && !versions.includes(String(json?.cniVersion))) wrong('no result on stdout')
    if (verb === 'VERSION' && !Array.isArray(json?.supportedVersions)) wrong('no versions on stdout')
    if (verb !== 'ADD' && verb !== 'VERSION' && stdout !== '') wrong('something on stdout')
  }
  if (status === 1) {
    const json = parsed(stdout)
    const { code, msg, cniVersion, details, ...more } = json ?? {}
    if (!json) wrong('no JSON object on stdout')
    else if (!Number.isInteger(code) || (code as number) <= 0) wrong(`code ${JSON.stringify(code)}`)
    else if (typeof msg !== 'string' || msg === '') wrong(`msg ${JSON.stringify(msg)}`)
    else if (!versions.includes(String(cniVersion))) wrong(`cniVersion ${JSON.stringify(cniVersion)}`)
    else if (details !== undefined && typeof details !== 'string') wrong(`details ${JSON.stringify(details)}`)
    else if (Object.keys(more).length > 0) wrong(`unknown keys ${Object.keys(more)}`)
    else if (code === 999) wrong(`an error without a code of its own: ${msg}`)
    else if (isStack(msg) || isStack(String(details))) wrong('a stack trace for the runtime')
  }
  return problems
}

/** Kept on purpose: the bridge, which other containers may use, and in a store the lock and what is like it. */
const isKept = (path: string) =>
  path.endsWith('/') || path.includes('/.ns-net/') || /\/(lock|last_reserved_ip\.\d+)$/.test(path)

function problemsLeft(call: Call, { status, left }: Outcome): string[] {
  const config = parsed(Buffer.from(call.stdin, 'base64').toString('latin1'))
  const bridges = call.plugin === 'bridge' ? [config?.bridge || 'cni0', 'br1', 'cni0'] : []
  const links = left.links.filter((name) => !bridges.includes(name))
  const files = left.files.filter((path) => !isKept(path))
  const when = `after ${call.env.CNI_COMMAND} with exit code ${status}`
  return [
    ...links.map((name) => `link ${name} left ${when}`),
    ...left.inside.map((name) => `link ${name} left in the container ${when}`),
    ...files.map((path) => `file ${path} left ${when}`),
  ]
}

export interface Finding {
  readonly problem: string
  readonly call: Call
  readonly outcome: Outcome
}

export function judge({ calls }: ReturnType<typeof callsOf>, outcomes: readonly Outcome[]): Finding[] {
  const [first] = calls
  const added = first!.env.CNI_COMMAND === 'ADD' && !first!.raw?.CNI_COMMAND && outcomes[0]!.status === 0
  return calls.flatMap((call, i) => {
    const outcome = outcomes[i]!
    const problems = problemsOf(call, outcome)
    const isLast = i === calls.length - 1
    if (call.env.CNI_COMMAND === 'ADD' && outcome.status === 1) problems.push(...problemsLeft(call, outcome))
    if (isLast && i > 0) problems.push(...problemsLeft(call, outcome))
    if (isLast && i > 0 && added && outcome.status !== 0) problems.push('DEL refuses what ADD has taken')
    return problems.map((problem) => ({ problem, call, outcome }))
  })
}
