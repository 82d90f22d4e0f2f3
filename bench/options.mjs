import { parseArgs } from 'node:util'
import { giveUp } from '../scripts/install.mjs'

export const kinds = ['latency', 'memory', 'ipam', 'scale', 'burst']

const help = `npm run bench -- [OPTIONS]

Builds, then calls the executables of dist/bin and the reference plugins in /usr/lib/cni (Debian:
containernetworking-plugins) in turn, whole processes in throw-away hosts, and prints the median, the fastest and the
slowest. The ratio says how many times better ours are. No figure makes it fail: a call that fails does.

  latency  VERSION, ADD, CHECK and DEL of loopback, ptp, bridge, bridge with ipMasq, bridge with portmap
  memory   the same calls: peak memory of the largest process, and CPU time of all
  ipam     host-local beside 0, 1,000 and 20,000 leases, with one address free of a /20, and with none
  scale    the next ADD and DEL of bridge with ipMasq and portmap beside 10, 100, 300 and 1,000 attachments, by nftables
           and by both variants of iptables; the reference up to 300, as it becomes slow
  burst    1, 4, 16 and 64 ADDs at once on one bridge, then as many DELs; with portmap the reference up to 16

  --only WORD     one of the above, or the workloads whose name has this word
  --runs N        rounds (30), of scale a third, of burst and peak memory a tenth, but no less than 3
  --full          the reference up to 1,000 attachments in scale, and to 64 at once with portmap in burst
  --markdown      prints the tables in markdown, with date, kernel, processor and command
  --json FILE     writes the figures
  --svg FILE      writes a chart
  --help          prints this
`

/** What the command line asks for. */
export function parseOptions(args) {
  let values
  try {
    values = parseArgs({
      args,
      options: {
        only: { type: 'string' },
        runs: { type: 'string', default: '30' },
        full: { type: 'boolean', default: false },
        markdown: { type: 'boolean', default: false },
        json: { type: 'string' },
        svg: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    }).values
  } catch (error) {
    giveUp(`bench: ${error.message}\n\n${help}`, 2)
  }
  if (values.help) {
    process.stdout.write(help)
    process.exit(0)
  }
  const runs = Number(values.runs)
  if (!Number.isInteger(runs) || runs < 3)
    giveUp(`bench: --runs: expected a number of at least 3, got "${values.runs}"`, 2)
  return { ...values, runs }
}

/** True when `--only` leaves this workload in. */
export const isAsked = ({ only }, kind, workload) =>
  only === undefined || only === kind || (!kinds.includes(only) && workload.includes(only))

/** A part of the rounds, for what takes long. */
export const fewer = ({ runs }, divisor) => Math.max(3, Math.ceil(runs / divisor))
