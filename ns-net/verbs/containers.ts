import type { Command } from 'commander'

export function containerVerbs(_program: Command): void {}
