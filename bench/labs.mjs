// node bench/labs.mjs [--labs N] [--runs N] [--json FILE]
//
// `ns-net apply` of many labs on one bridge, and `down`, against a shell loop of ip(8) that makes and removes as many
// namespaces with an address and a default route each, and against mininet where it is installed, whose hosts have an
// address and a shell that runs. Ours also translate addresses, lease them, and write DNS and hosts files; the others
// do nothing of that. In turn, each round in a throw-away host of its own; medians of whole processes. It is a
// measurement, not a test: nothing fails.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { build } from '../scripts/build.mjs'
import { giveUp, root } from '../scripts/install.mjs'
import { findProgram, privateHost } from '../scripts/private-host.mjs'

const { values: options } = parseArgs({
  options: {
    labs: { type: 'string', default: '100' },
    runs: { type: 'string', default: '5' },
    json: { type: 'string' },
  },
})

function numberOf(name, least, most) {
  const value = Number(options[name])
  if (Number.isInteger(value) && value >= least && value <= most) return value
  return giveUp(`bench: --${name}: expected a number from ${least} to ${most}, got "${options[name]}"`)
}
const labs = numberOf('labs', 2, 1000) // a bridge has at most 1023 ports
const runs = numberOf('runs', 1, 100)

const program = join(root, 'dist/bin/ns-net')
const document = {
  lab: 'bench',
  networks: { lan: { subnet: '10.99.0.0/16' } },
  nodes: Object.fromEntries(Array.from({ length: labs }, (_, i) => [`n${i}`, { nets: ['lan'] }])),
}

const timed = (name, command) =>
  `t0=$EPOCHREALTIME; ${command}; t1=$EPOCHREALTIME; echo "${name} $(( \${t1/./} - \${t0/./} ))"`

const ours = (file) => [
  timed('ours up', `${program} apply -f ${file} >/dev/null || exit 1`),
  timed('ours again', `${program} apply -f ${file} >/dev/null || exit 1`),
  timed('ours down', `${program} down bench >/dev/null || exit 1`),
]

const make = `ip link add bench0 type bridge; ip addr add 10.99.0.1/16 dev bench0; ip link set bench0 up
    for i in $(seq ${labs}); do
      ip netns add n$i
      ip link add v$i type veth peer name eth0 netns n$i
      ip link set v$i master bench0 up
      ip -n n$i addr add 10.99.$((i / 250)).$((i % 250 + 2))/16 dev eth0
      ip -n n$i link set eth0 up
      ip -n n$i link set lo up
      ip -n n$i route add default via 10.99.0.1
    done`
const remove = `for i in $(seq ${labs}); do ip link del v$i; ip netns del n$i; done; ip link del bench0`
const theirs = [timed('theirs up', make), timed('theirs down', remove)]

/**
 * One process of mininet goes up and down; that it begins to go down is a line of what it says. When something goes
 * wrong it kills processes and deletes files by name and ends with 0: so it sees no process and no /tmp but its own,
 * and what it says is looked at. It also raises limits of the whole machine, which are made read-only before.
 */
const mininet = [
  `mount -t tmpfs tmpfs /tmp || exit 1; export HOME=/tmp
   for part in fs kernel vm; do
     mount --bind /proc/sys/$part /proc/sys/$part && mount -o remount,bind,ro /proc/sys/$part || exit 1
   done
   t0=$EPOCHREALTIME
   while read -r line; do
     case $line in *'*** Stopping'*controllers*) t1=$EPOCHREALTIME;; 'completed in'*) completed=yes;; esac
     said+=$line$'\\n'
   done < <(mn --switch lxbr --topo single,${labs} --test none 2>&1)
   t2=$EPOCHREALTIME
   if [ -z "$t1" ] || [ -z "$completed" ]; then printf '%s' "$said" >&2; exit 1; fi
   echo "mininet up $(( \${t1/./} - \${t0/./} ))"
   echo "mininet down $(( \${t2/./} - \${t1/./} ))"`,
]

/** Programs that mininet runs; brctl is of bridge-utils, ifconfig of net-tools. */
const missing = ['mn', 'mnexec', 'brctl', 'ifconfig'].find((name) => !findProgram(name))

/** Runs commands in a throw-away host, by a program and its arguments if told; figures in milliseconds by name. */
async function measure(commands, into, wrapper = []) {
  const directory = mkdtempSync(join(tmpdir(), 'ns-net-bench-'))
  const file = join(directory, 'figures')
  writeFileSync(join(directory, 'bench.json'), JSON.stringify(document))
  writeFileSync(
    join(directory, 'program'),
    `exec 3>"${file}"\n{ ${commands(join(directory, 'bench.json')).join('\n')}\n} >&3\n`,
  )
  try {
    const status = await privateHost([...wrapper, 'bash', join(directory, 'program')])
    if (status !== 0) giveUp('bench: a call failed; see above')
    for (const line of readFileSync(file, 'utf8').trimEnd().split('\n')) {
      const [set, what, microseconds] = line.split(' ')
      const name = `${set} ${what}`
      into.set(name, [...(into.get(name) ?? []), Number(microseconds) / 1000])
    }
  } finally {
    rmSync(directory, { recursive: true })
  }
}

const sorted = (values) => [...values].sort((a, b) => a - b)
const summary = (values) => ({
  min: sorted(values)[0],
  median: sorted(values)[Math.floor(values.length / 2)],
  max: sorted(values).at(-1),
})

build()
if (missing) process.stdout.write(`mininet is left out: ${missing} is not installed\n`)
const figures = new Map()
for (let run = 0; run < runs; run++) {
  await measure(ours, figures)
  await measure(() => theirs, figures)
  if (!missing) await measure(() => mininet, figures, ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc'])
}
const sets = missing ? ['ours', 'theirs'] : ['ours', 'theirs', 'mininet']
for (const set of sets) {
  const [up, down] = [figures.get(`${set} up`), figures.get(`${set} down`)]
  figures.set(
    `${set} total`,
    up.map((value, i) => value + down[i]),
  )
}
const rows = ['up', 'again', 'down', 'total'].map((what) => {
  const measured = sets.filter((set) => figures.has(`${set} ${what}`))
  return { what, ...Object.fromEntries(measured.map((set) => [set, summary(figures.get(`${set} ${what}`))])) }
})

const cell = (value) => (value === undefined ? '-' : value.toFixed(0))
const range = (each) => (each ? `(${cell(each.min)} ${cell(each.max)})` : '')
const titles = { ours: 'OURS ms', theirs: 'SHELL LOOP ms', mininet: 'MININET ms' }
const ratio = (ours, other) => (other ? (other.median / ours.median).toFixed(1) : '')
const table = [
  ['LABS', 'WHAT', ...sets.flatMap((set) => [titles[set], '(min max)', ...(set === 'ours' ? [] : ['RATIO'])])],
  ...rows.map((row) => [
    String(labs),
    { up: 'apply', again: 'apply again', down: 'down', total: 'apply and down' }[row.what],
    ...sets.flatMap((set) => [
      cell(row[set]?.median),
      range(row[set]),
      ...(set === 'ours' ? [] : [ratio(row.ours, row[set])]),
    ]),
  ]),
]
const widths = table[0].map((_, column) => Math.max(...table.map((row) => row[column].length)))
process.stdout.write(
  `\nmedians of ${runs} rounds, ${cpus().length} CPUs (${cpus()[0]?.model ?? 'unknown'}), Linux ${release()}; above 1 we are faster\n\n`,
)
for (const row of table)
  process.stdout.write(
    `${row
      .map((text, i) => text.padEnd(widths[i]))
      .join('  ')
      .trimEnd()}\n`,
  )
if (options.json) writeFileSync(options.json, `${JSON.stringify({ labs, runs, rows }, undefined, 2)}\n`)
