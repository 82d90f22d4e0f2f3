import type { Command } from 'commander'

export function diagnosisVerbs(_program: Command): void {}
