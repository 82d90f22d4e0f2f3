import type { Command } from 'commander'

export function fileVerbs(_program: Command): void {}
