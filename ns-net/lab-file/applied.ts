import fs from 'node:fs'
import { type Lab, listLabs, removeIfEmpty, stateDirectory } from '../labs.ts'
import { fileLabel } from './document.ts'

/**
 * What was applied last, for each lab file: kept so that `down` needs no file, and to know which networks it made. What
 * there is to do is never decided by it, but by the kernel and the records of the labs.
 */
export interface Applied {
  readonly name: string
  /** As a lab file has it. */
  readonly document: Readonly<Record<string, unknown>>
  /** Networks that were not there before. */
  readonly networks: readonly string[]
}

const directory = `${stateDirectory}/applied`
const fileOf = (name: string) => `${directory}/${name}.json`

export function findApplied(name: string): Applied | undefined {
  try {
    return JSON.parse(fs.readFileSync(fileOf(name), 'utf8')) as Applied
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return undefined
    throw error
  }
}

export function listApplied(): Applied[] {
  if (!fs.existsSync(directory)) return []
  const names = fs.readdirSync(directory).filter((name) => name.endsWith('.json'))
  return names.sort().flatMap((name) => findApplied(name.slice(0, -'.json'.length)) ?? [])
}

export function writeApplied(applied: Applied): void {
  fs.mkdirSync(directory, { recursive: true })
  fs.writeFileSync(`${fileOf(applied.name)}.new`, JSON.stringify(applied))
  fs.renameSync(`${fileOf(applied.name)}.new`, fileOf(applied.name))
}

export function forgetApplied(name: string): void {
  fs.rmSync(fileOf(name), { force: true })
  removeIfEmpty(directory)
}

/** The labs that a file made or took over. */
export const labsOfFile = (name: string, labs: readonly Lab[] = listLabs()): Lab[] =>
  labs.filter(({ labels }) => labels?.[fileLabel] === name)
