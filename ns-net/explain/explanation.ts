import { keepJournal } from '../../netlink-lib/journal.ts'
import type { Report } from '../output.ts'
import {
  backgroundChanges,
  changesBetween,
  commandsFor,
  type FileChange,
  isPublic,
  kindOf,
  listDataDirs,
  readTrees,
  undoFor,
} from './files.ts'
import { asRemarks, stepLines, undoCommands, undoLines } from './print.ts'
import { Recorder, type Step } from './recorder.ts'
import type { Rehearsal } from './rehearsal.ts'
import { whyOfFile } from './why.ts'
import { word } from './words.ts'

/** What a verb does, told while it does it. */
export interface Explanation {
  /** Ends the telling. The report is told in the words of the explanation. */
  explain(report: Report): Report
}

/** From now on everything that is changed is written down; in a rehearsal nothing of it is real. */
export function beginExplanation(rehearsal: Rehearsal | undefined, conf: string | undefined): Explanation {
  const dataDirs = listDataDirs(conf)
  const before = readTrees(dataDirs)
  const recorder = new Recorder(rehearsal !== undefined)
  const endSignals = tellSignals(recorder, rehearsal !== undefined)
  keepJournal(recorder)
  return {
    explain(report) {
      keepJournal(undefined)
      endSignals()
      recorder[Symbol.dispose]()
      const changes = changesBetween(before, readTrees(dataDirs))
      const steps = [
        ...recorder.steps,
        ...changes.filter(isPublic).map(publicStep),
        ...changes.flatMap((change) => backgroundSteps(change, rehearsal !== undefined)),
      ]
      return asReport(
        steps,
        changes.filter((change) => !isPublic(change)),
        report,
        rehearsal,
      )
    },
  }
}

const publicStep = (change: FileChange): Step => ({
  command: commandsFor(change).join('\n'),
  why: whyOfFile(change.path, change.after === undefined),
  undo: undoFor(change),
  place: 'host',
})

/** What a lab file has running inside its labs. What was ended was told as signals. */
function backgroundSteps(change: FileChange, isRehearsal: boolean): Step[] {
  const { lab = '', started = [] } = backgroundChanges(change) ?? {}
  return started.map(({ command, pid }) => ({
    command: `ip netns exec ${lab} setsid sh -c ${word(command)} >/dev/null 2>&1 &`,
    why: 'the lab file asks for it',
    undo: [isRehearsal ? `# what runs in ${lab} is to be ended` : `kill -- -${pid}`],
    place: lab,
  }))
}

/** Our own files make no difference to the network: a remark is enough, but an undo takes them along. */
const ownStep = (change: FileChange): Step => ({
  command: `# ${change.after === undefined ? 'no ' : ''}${kindOf(change) ?? 'file'}: ${change.path}`,
  why: 'how ns-net finds it again',
  undo: undoFor(change),
  place: 'host',
})

/** What the real run would meet and the rehearsal did not. */
function differencesIn({ failures, inhabitants }: Rehearsal, steps: readonly Step[]): string[] {
  const does = (start: string) => steps.some(({ command }) => command.startsWith(start))
  const busy = [...inhabitants].filter(
    ([name, pids]) => pids.length > 0 && does(`ip netns del ${name}`) && !does('kill '),
  )
  return [
    ...failures.map((failure) => `not as on the host: ${failure}`),
    ...busy.map(([name, pids]) => {
      const some = pids.slice(0, 10).join(' ')
      return `processes run in ${name} (${some}): without --kill or --force del refuses`
    }),
  ]
}

function asReport(
  steps: readonly Step[],
  ownFiles: readonly FileChange[],
  report: Report,
  rehearsal: Rehearsal | undefined,
): Report {
  const own = ownFiles.map(ownStep)
  const named = own.filter((_, i) => kindOf(ownFiles[i]!) !== undefined)
  const differences = rehearsal && differencesIn(rehearsal, steps)
  const lines = [
    ...(rehearsal ? ['# dry run: nothing is changed; this is what would be done'] : []),
    ...(differences ?? []).map((each) => `# ${each}`),
    ...stepLines(steps),
    ...(steps.length + own.length === 0 ? ['# nothing has to be done'] : []),
    ...named.map(({ command }) => command),
    ...(rehearsal ? [] : asRemarks(report.text)),
    ...undoLines([...steps, ...own]),
  ]
  const all = [...steps, ...named]
  const json = {
    ...(rehearsal && { dryRun: true, differences }),
    result: report.json,
    steps: all,
    undo: undoCommands([...steps, ...own]),
  }
  return { ...report, json, text: `${lines.join('\n')}\n` }
}

/** `del --kill` ends processes. In a rehearsal none is ended. */
function tellSignals(recorder: Recorder, isRehearsal: boolean): () => void {
  const { kill } = process
  process.kill = (pid, signal) => {
    const name = String(signal ?? 'TERM').replace(/^SIG/, '')
    const undo = [`# process ${pid} does not come back`]
    recorder.steps.push({ command: `kill -${name} ${pid}`, why: 'it runs inside', undo, place: 'host' })
    return isRehearsal ? true : kill.call(process, pid, signal)
  }
  return () => {
    process.kill = kill
  }
}
