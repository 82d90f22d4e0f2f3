import type { Section } from '../../config/reader.ts'
import { Value } from '../../config/reader.ts'
import { formatCidr, networkOf } from '../../netlink-lib/ip.ts'
import { CliError } from '../errors.ts'
import { checkLabName } from '../labs.ts'
import type { ShapeEntry } from './document.ts'
import type { Mistakes } from './mistakes.ts'
import { canonicalShape } from './shapes.ts'

/** What the entries of a lab file are made of. */

/** What another parser refuses is a mistake at this place. */
export function orFail<T>(value: Value, parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    if (error instanceof CliError) return value.fail(`${error.message}${error.hint ? ` (${error.hint})` : ''}`)
    throw error
  }
}

export const namesIn = (json: unknown): string[] => (typeof json === 'object' && json !== null ? Object.keys(json) : [])

/** An object whose keys are names. An entry without a value is one with all defaults. */
export function readMap<T>(
  section: Section,
  key: string,
  mistakes: Mistakes,
  read: (name: string, entry: Value) => T,
): Map<string, T> {
  const found = new Map<string, T>()
  const value = section.get(key)
  if (!value) return found
  mistakes.attempt(() => value.object())
  for (const name of namesIn(value.json)) {
    const entry = new Value((value.json as Record<string, unknown>)[name] ?? {}, `${key}.${name}`)
    const result = mistakes.attempt(() => {
      orFail(entry, () => checkLabName(name))
      return read(name, entry)
    })
    if (result !== undefined) found.set(name, result)
  }
  return found
}

/** The elements of a list; one that cannot be read keeps nobody from looking at the others. */
export function readList<T>(section: Section, key: string, mistakes: Mistakes, read: (entry: Value) => T): T[] {
  const elements = mistakes.attempt(() => section.list(key, (element) => element)) ?? []
  return elements.flatMap((element) => {
    const found = mistakes.attempt(() => ({ value: read(element) }))
    return found ? [found.value] : []
  })
}

/** One text, or several. */
export function texts(value: Value | undefined): Value[] {
  if (!value) return []
  return Array.isArray(value.json) ? value.list((each) => each) : [value]
}

/** YAML reads 8080 and 1.5 as numbers where a text is meant. */
export function textOf(value: Value): string {
  return typeof value.json === 'number' || typeof value.json === 'boolean' ? String(value.json) : value.string()
}

export function rangeOf(value: Value): string {
  const range = value.cidr()
  return formatCidr(networkOf(range))
}

/** Link names have at most 15 bytes (IFNAMSIZ). */
export function linkName(value: Value | undefined): string | undefined {
  const name = value?.string()
  if (name !== undefined && !/^[\w.@+-]{1,15}$/.test(name))
    value!.fail(`expected the name of a link, at most 15 characters, got ${JSON.stringify(name)}`)
  return name
}

/** So that what is not given does not hide what is. */
export const withoutUndefined = <T extends object>(value: T): T =>
  Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as T

export function readShape(value: Value | undefined, mistakes: Mistakes): ShapeEntry | undefined {
  if (!value) return undefined
  const section = value.object()
  const text = (key: string) => {
    const found = section.get(key)
    return found && textOf(found)
  }
  const entry = { rate: text('rate'), delay: text('delay'), jitter: text('jitter'), loss: text('loss') }
  mistakes.refuseUnknown(value, section)
  return orFail(value, () => canonicalShape(withoutUndefined(entry)))
}
