// npm run bench: our executables against the reference plugins, whole process, in one interleaved run.
//
//   npm run bench -- [--runs N] [--only WORD] [--json FILE]
//
// Every call is timed by bash around fork, exec and exit, ours and theirs in turn, inside a throw-away host. Figures are
// medians; the ratio is theirs to ours, so above 1 we are faster. It is a measurement, not a test: nothing fails.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { build } from '../scripts/build.mjs'
import { giveUp, root } from '../scripts/install.mjs'
import { privateHost } from '../scripts/private-host.mjs'

const { values: options } = parseArgs({
  options: { runs: { type: 'string', default: '30' }, only: { type: 'string' }, json: { type: 'string' } },
})
const runs = Number(options.runs)
if (!Number.isInteger(runs) || runs < 3) giveUp(`bench: --runs: expected a number of at least 3, got "${options.runs}"`)

const sets = { ours: join(root, 'dist/bin'), theirs: '/usr/lib/cni' }

const ipam = { type: 'host-local', ranges: [[{ subnet: '10.99.0.0/16' }]] }
const bridge = { type: 'bridge', bridge: 'bench0', isDefaultGateway: true, ipam }
const portMappings = [
  { hostPort: 18080, containerPort: 80, protocol: 'tcp' },
  { hostPort: 18053, containerPort: 53, protocol: 'udp' },
]
const portmap = { type: 'portmap', runtimeConfig: { portMappings } }

/** Each a list of plugins, called as a runtime calls them: ADD in order with prevResult, DEL in reverse. */
const workloads = {
  loopback: [{ type: 'loopback' }],
  ptp: [{ type: 'ptp', ipam }],
  bridge: [bridge],
  'bridge+ipMasq': [{ ...bridge, ipMasq: true }],
  'bridge+portmap': [bridge, portmap],
  'host-local': [{ type: 'host-local', ipam }],
  'host-local, 20000 leases': [{ type: 'host-local', ipam, leases: 20_000 }],
}

/** A bash program that prints `workload verb set microseconds` for every timed call. */
function program(name, plugins, verbs) {
  const prevResult = {
    cniVersion: '1.0.0',
    interfaces: [{ name: 'eth0', sandbox: '/run/netns/bench' }],
    ips: [{ address: '10.99.200.2/16', interface: 0 }],
  }
  const document = (plugin, i, label) => {
    const { leases: _, ...conf } = plugin
    const ipam = conf.ipam && { ...conf.ipam, dataDir: `/run/leases-${label}` }
    return JSON.stringify({ cniVersion: '1.0.0', name: 'bench', ...conf, ipam, ...(i > 0 && { prevResult }) })
  }
  const files = Object.keys(sets).flatMap((label) =>
    plugins.map((plugin, i) => `cat >${label}.${i} <<'END'\n${document(plugin, i, label)}\nEND`),
  )
  const leases = plugins[0].leases ?? 0
  const calls = (verb) => {
    const order = plugins.map((plugin, i) => ({ type: plugin.type, file: `$label.${i}` }))
    return (verb === 'DEL' ? order.reverse() : order)
      .map(({ type, file }) => `CNI_COMMAND=${verb} "$set/${type}" <${file} >/dev/null || exit 1`)
      .join('; ')
  }
  // Leases as either set writes them, of containers that came before.
  const fill = `for label in ${leases > 0 ? Object.keys(sets).join(' ') : ''}; do
      mkdir -p /run/leases-$label/bench
      for i in $(seq 2 ${leases + 1}); do printf 'c%s\\r\\neth0' $i >/run/leases-$label/bench/10.99.$((i / 256)).$((i % 256)); done
      printf 10.99.$(((${leases} + 1) / 256)).$(((${leases} + 1) % 256)) >/run/leases-$label/bench/last_reserved_ip.0
    done`
  const timed = (verb) =>
    `t0=$EPOCHREALTIME; ${calls(verb)}; t1=$EPOCHREALTIME; echo "${name.replaceAll(' ', '_')} ${verb} $label $(( \${t1/./} - \${t0/./} ))"`
  return `
    cd "$(mktemp -d)"
    ${files.join('\n')}
    ${fill}
    export CNI_CONTAINERID=bench CNI_NETNS=/run/netns/bench CNI_IFNAME=eth0 CNI_ARGS=
    ip netns add bench
    use() { label=$1; set=$2; export CNI_PATH=$2; }
    round() { ${verbs.map(timed).join('\n      ')}
    }
    # The first calls of each set make what is shared, and read what they find.
    ${Object.entries(sets)
      .map(([label, set]) => `use ${label} ${set}; round >/dev/null`)
      .join('\n    ')}
    for i in $(seq ${runs}); do
      ${Object.entries(sets)
        .map(([label, set]) => `use ${label} ${set}; round`)
        .join('\n      ')}
    done`
}

/** Runs a program in a throw-away host and returns its figures by `workload verb set`. */
async function measure(text, env = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'ns-net-bench-'))
  const file = join(directory, 'figures')
  writeFileSync(join(directory, 'program'), `exec 3>"${file}"\n{ ${text}\n} >&3\n`)
  try {
    const status = await privateHost(['bash', join(directory, 'program')], { env: { ...process.env, ...env } })
    if (status !== 0) giveUp('bench: a call failed; see above')
    const figures = new Map()
    for (const line of readFileSync(file, 'utf8').trimEnd().split('\n')) {
      const [name, verb, label, microseconds] = line.split(' ')
      const key = `${name} ${verb} ${label}`
      figures.set(key, [...(figures.get(key) ?? []), Number(microseconds) / 1000])
    }
    return figures
  } finally {
    rmSync(directory, { recursive: true })
  }
}

const sorted = (values) => [...values].sort((a, b) => a - b)
const median = (values) => sorted(values)[Math.floor(values.length / 2)]
const summary = (values) => ({ min: sorted(values)[0], median: median(values), max: sorted(values).at(-1) })

build()
if (!existsSync(join(sets.theirs, 'bridge')))
  giveUp(
    'bench: skipped: the reference plugins are not installed (Debian: apt-get install containernetworking-plugins)',
  )
for (const tool of ['bash', 'ip']) if (spawnSync(tool, ['-V']).error) giveUp(`bench: skipped: ${tool} is not installed`)

const rows = []
const note = (workload, verb, ours, theirs) =>
  rows.push({ workload, verb, ours: summary(ours), theirs: theirs && summary(theirs) })
for (const [name, plugins] of Object.entries(workloads)) {
  if (options.only && !name.includes(options.only)) continue
  const verbs = name === 'loopback' ? ['VERSION', 'ADD', 'DEL'] : ['ADD', 'DEL']
  const figures = await measure(program(name, plugins, verbs))
  const key = name.replaceAll(' ', '_')
  for (const verb of verbs) note(name, verb, figures.get(`${key} ${verb} ours`), figures.get(`${key} ${verb} theirs`))
}

const cell = (value) => (value === undefined ? '-' : value.toFixed(1))
const table = [
  ['WORKLOAD', 'VERB', 'OURS ms', '(min max)', 'THEIRS ms', '(min max)', 'RATIO'],
  ...rows.map(({ workload, verb, ours, theirs }) => [
    workload,
    verb,
    cell(ours.median),
    `(${cell(ours.min)} ${cell(ours.max)})`,
    cell(theirs?.median),
    theirs ? `(${cell(theirs.min)} ${cell(theirs.max)})` : '',
    theirs ? (theirs.median / ours.median).toFixed(2) : '',
  ]),
]
const widths = table[0].map((_, column) => Math.max(...table.map((row) => row[column].length)))
process.stdout.write(
  `\nmedians of ${runs} calls each, ${cpus().length} CPUs (${cpus()[0]?.model ?? 'unknown'}), Linux ${release()}; above 1 we are faster\n\n`,
)
for (const row of table)
  process.stdout.write(
    `${row
      .map((text, i) => text.padEnd(widths[i]))
      .join('  ')
      .trimEnd()}\n`,
  )
if (options.json) writeFileSync(options.json, `${JSON.stringify({ runs, rows }, undefined, 2)}\n`)
