import type { Executable } from '../contract/executable.ts'

declare const require: (path: string) => unknown // Bun's loads modules of every kind, at once

export const bridgeExecutable: Executable = {
  type: 'bridge',
  async load() {
    const { bridgeWith } = await import('./verbs.ts')
    return bridgeWith(() => require('./anti-spoofing.ts') as typeof import('./anti-spoofing.ts'))
  },
}
