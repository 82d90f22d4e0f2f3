import fs from 'node:fs'
import { leaseDirectory } from './configuration.ts'

export const fileName = '10-ns-net.conflist'

/** False when the file has these bytes already. Otherwise they are all there at once, or not at all. */
export function writeConfiguration(folder: string, content: string): boolean {
  const file = `${folder}/${fileName}`
  if (readIfPresent(file) === content) return false
  fs.mkdirSync(folder, { recursive: true })
  // In the same folder: containerd 1.6 does not notice what is moved in from another one. It reads no .tmp.
  const next = `${file}.tmp`
  const descriptor = fs.openSync(next, 'w', 0o644)
  try {
    fs.writeSync(descriptor, content)
    fs.fsyncSync(descriptor)
  } finally {
    fs.closeSync(descriptor)
  }
  fs.renameSync(next, file)
  return true
}

/** The file that a runtime takes instead of ours: it takes the first one by name. */
export function configurationBefore(folder: string): string | undefined {
  const first = fs
    .readdirSync(folder)
    .filter((name) => /\.(conf|conflist|json)$/.test(name))
    .sort()[0]
  return first === fileName ? undefined : first
}

/** False when there is none of ours. */
export function removeConfiguration(folder: string): boolean {
  const file = `${folder}/${fileName}`
  fs.rmSync(`${file}.tmp`, { force: true })
  if (!readIfPresent(file)?.includes(leaseDirectory)) return false
  fs.rmSync(file)
  return true
}

export function readIfPresent(file: string): string | undefined {
  try {
    return fs.readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
