import type { Command } from 'commander'

export function networkVerbs(_program: Command): void {}
