import type { Command } from 'commander'

export function hostVerbs(_program: Command): void {}
