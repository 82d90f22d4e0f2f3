import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'vitest'
import { type Host, requireTool } from './host.ts'

/** A folder of programs that comes first in PATH. Take it with `using`, or dispose of it in afterEach. */
export interface Programs extends Disposable {
  readonly folder: string
  readonly env: { readonly PATH: string }
  /** Writes a shell script in the place of a program. */
  replace(name: string, script: string): void
}

export function createPrograms(): Programs {
  const folder = mkdtempSync(join(tmpdir(), 'ns-net-programs-'))
  return {
    folder,
    env: { PATH: `${folder}:${process.env.PATH}:/usr/sbin:/sbin` },
    replace(name, script) {
      rmSync(join(folder, name), { force: true })
      writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    },
    [Symbol.dispose]: () => rmSync(folder, { recursive: true }),
  }
}

export const variants = ['nft', 'legacy'] as const

/** Makes the programs called iptables… be those of one variant. */
export function useVariant({ folder }: Programs, variant: (typeof variants)[number], context: TestContext): void {
  const program = requireTool(`xtables-${variant}-multi`, context)
  for (const name of ['iptables', 'ip6tables'])
    for (const suffix of ['', '-save', '-restore']) symlinkSync(program, join(folder, name + suffix))
}

/** The chains and rules of a table of both families, without counters. */
export const savedRules = (host: Host, { env }: Programs, table = 'filter'): string[] =>
  ['iptables-save', 'ip6tables-save']
    .flatMap((name) => host.run([name, '-t', table], { env }).stdout.split('\n'))
    .filter((line) => /^(:|-A)/.test(line))
    .map((line) => line.replace(/ \[\d+:\d+\]$/, ''))

/** As Docker sets it; whoever wants packets forwarded has to say so. */
export function dropForwarded(host: Host, { env }: Programs): void {
  for (const name of ['iptables', 'ip6tables']) host.run([name, '-P', 'FORWARD', 'DROP'], { env })
}
