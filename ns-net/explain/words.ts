/** A word of a shell command: quoted where the shell would take it for something else. */
export const word = (text: string): string =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`

/** Words of a command; what is undefined or empty is left out. */
export const phrase = (...words: readonly (string | undefined | false)[]): string => words.filter(Boolean).join(' ')

/** `keyword value`, or nothing without a value. */
export const option = (keyword: string, value: string | number | undefined): string | undefined =>
  value === undefined ? undefined : `${keyword} ${typeof value === 'number' ? value : word(value)}`

/** A command that reads these lines, which must not hold the line that ends them. */
export function hereDocument(command: string, lines: readonly string[]): string {
  let end = 'END'
  while (lines.includes(end)) end += '_'
  return `${command} <<'${end}'\n${lines.map((line) => `${line}\n`).join('')}${end}`
}
