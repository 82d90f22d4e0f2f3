import type { Command } from 'commander'

export function seeingVerbs(_program: Command): void {}
