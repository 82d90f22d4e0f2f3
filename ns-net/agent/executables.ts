import fs from 'node:fs'
import { ownImages } from '../../plugins/contract/delegation.ts'

/*
 * Puts the plugins where the runtime looks for them. Each is written beside its place and renamed: a file that is being
 * run cannot be written to ("text file busy"), and a runtime never finds half of one. What was there before under such a
 * name, the node's own plugins, is kept, for `--cleanup` to put back.
 */

const aside = '.before-ns-net'

/** Copies what a folder has into another; names of what was not there, or was different. */
export function installExecutables(from: string, to: string): string[] {
  fs.mkdirSync(to, { recursive: true })
  const names = fs.readdirSync(from).sort()
  const isLink = (name: string) => fs.lstatSync(`${from}/${name}`).isSymbolicLink()
  // The links last: a plugin is there when what it leads to is.
  const ordered = [...names.filter((name) => !isLink(name)), ...names.filter(isLink)]
  return ordered.filter((name) => {
    if (isSame(`${from}/${name}`, `${to}/${name}`)) return false
    keepForeign(to, name)
    const next = `${to}/.${name}.${process.pid}`
    fs.rmSync(next, { force: true })
    fs.cpSync(`${from}/${name}`, next, { verbatimSymlinks: true })
    fs.renameSync(next, `${to}/${name}`)
    return true
  })
}

/** Removes the images and the links to them, and puts back what they replaced. */
export function removeExecutables(folder: string): string[] {
  if (!fs.existsSync(folder)) return []
  const ours = fs.readdirSync(folder).filter((name) => isOurs(folder, name))
  for (const name of ours) {
    fs.rmSync(`${folder}/${name}`)
    if (fs.existsSync(`${folder}/${aside}/${name}`)) fs.renameSync(`${folder}/${aside}/${name}`, `${folder}/${name}`)
  }
  fs.rmSync(`${folder}/${aside}`, { recursive: true, force: true })
  return ours
}

function isOurs(folder: string, name: string): boolean {
  if (ownImages.includes(name)) return true
  return fs.lstatSync(`${folder}/${name}`).isSymbolicLink() && ownImages.includes(fs.readlinkSync(`${folder}/${name}`))
}

function keepForeign(folder: string, name: string): void {
  if (!fs.existsSync(`${folder}/${name}`) || isOurs(folder, name)) return
  fs.mkdirSync(`${folder}/${aside}`, { recursive: true })
  fs.copyFileSync(`${folder}/${name}`, `${folder}/${aside}/${name}`)
}

function isSame(one: string, other: string): boolean {
  const [a, b] = [fs.lstatSync(one), fs.lstatSync(other, { throwIfNoEntry: false })]
  if (!b || a.isSymbolicLink() !== b.isSymbolicLink()) return false
  if (a.isSymbolicLink()) return fs.readlinkSync(one) === fs.readlinkSync(other)
  return a.size === b.size && a.mode === b.mode && haveSameBytes(one, other)
}

function haveSameBytes(one: string, other: string): boolean {
  const descriptors = [one, other].map((file) => fs.openSync(file, 'r'))
  const [a, b] = [Buffer.alloc(1 << 20), Buffer.alloc(1 << 20)]
  try {
    for (;;) {
      const length = fs.readSync(descriptors[0]!, a)
      if (length !== fs.readSync(descriptors[1]!, b)) return false
      if (length === 0) return true
      if (!a.subarray(0, length).equals(b.subarray(0, length))) return false
    }
  } finally {
    for (const descriptor of descriptors) fs.closeSync(descriptor)
  }
}
