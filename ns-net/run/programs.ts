import fs from 'node:fs'
import { CliError } from '../errors.ts'

/** Programs of the host that ns-net leaves work to, and the Debian package each is from. */
const packages = {
  hostname: 'hostname',
  mount: 'mount',
  nsenter: 'util-linux',
  pivot_root: 'util-linux',
  setpriv: 'util-linux',
  setsid: 'util-linux',
  sh: 'dash',
  umount: 'mount',
  unshare: 'util-linux',
} as const
export type Program = keyof typeof packages

/** An ordinary user's PATH lacks the places where Debian keeps pivot_root. */
const directories = () => [
  ...(process.env.PATH ?? '').split(':').filter(Boolean),
  '/usr/sbin',
  '/sbin',
  '/usr/bin',
  '/bin',
]

/** Path of a program, undefined when it is not installed. */
export function findProgram(name: string): string | undefined {
  return directories()
    .map((directory) => `${directory}/${name}`)
    .find(isExecutable)
}

/** Paths of programs by their names; throws, naming it, when one is missing. */
export function requirePrograms<P extends Program>(...names: readonly P[]): Record<P, string> {
  const found = names.map((name) => {
    const path = findProgram(name)
    if (path) return [name, path]
    throw new CliError(
      'exec',
      `${name} is not installed`,
      `it is part of ${packages[name]}: apt-get install ${packages[name]}`,
    )
  })
  return Object.fromEntries(found) as Record<P, string>
}

export function isExecutable(file: string): boolean {
  try {
    fs.accessSync(file, fs.constants.X_OK)
    return fs.statSync(file).isFile()
  } catch {
    return false
  }
}
