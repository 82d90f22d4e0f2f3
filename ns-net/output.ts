import { CniError } from '../plugins/contract/errors.ts'
import { type CliError, exitCodes } from './errors.ts'

/** What a verb yields: one value, told as JSON or as text. */
export interface Report {
  readonly json: unknown
  readonly text: string
  /** What did not work although there is something to report: told on stderr, and the exit code is 8. */
  readonly failed?: string
  /** A report that says no: exit code 1. */
  readonly negative?: boolean
}

/** A line feed in a command would break the table, and worse may be in there. */
const printable = (cell: string): string => cell.replaceAll(/\p{Cc}+/gu, ' ')

/** Columns with a gutter of two spaces, headings in capitals, `-` for nothing: stable for awk. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [headings, ...rows.map((row) => row.map((cell) => printable(cell) || '-'))]
  const widths = headings.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)))
  return lines
    .map((line) =>
      line.map((cell, column) => (column === line.length - 1 ? cell : cell.padEnd(widths[column]!))).join('  '),
    )
    .map((line) => `${line.trimEnd()}\n`)
    .join('')
}

export function formatReport({ json, text }: Report, asJson: boolean): string {
  return asJson ? `${JSON.stringify(json, undefined, 2)}\n` : text
}

/** An error for a person, or the same as JSON; both go to stderr, so that stdout holds results only. */
export function formatError({ kind, message, hint, cause }: CliError, asJson: boolean): string {
  const cni = cause instanceof CniError ? { code: cause.code, msg: cause.message, details: cause.details } : undefined
  const error = { code: exitCodes[kind], kind, message, hint, cni }
  if (asJson) return `${JSON.stringify({ error }, undefined, 2)}\n`
  return `ns-net: ${message}\n${hint ? `hint: ${hint}\n` : ''}`
}
