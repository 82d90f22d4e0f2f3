import { Host } from '../../plugins/contract/host.ts'
import type { AgentOptions } from './agent.ts'
import { removeConfiguration } from './configuration-file.ts'
import { removeExecutables } from './executables.ts'
import { Journal } from './journal.ts'
import { removeMasquerade } from './masquerade.ts'
import { removeRoutes } from './routes.ts'

/** Takes away all that the agent ever made on this node. Attachments of pods are the runtime's to undo. */
export function cleanUp({ confDir, binDir }: Pick<AgentOptions, 'confDir' | 'binDir'>): void {
  const journal = new Journal()
  using host = new Host()
  // First: no pod is to come any more.
  if (removeConfiguration(confDir)) journal.write('configuration removed', { folder: confDir })
  for (const route of removeRoutes(host.route)) journal.write('route removed', { route })
  if (removeMasquerade(host.netfilter)) journal.write('masquerade removed')
  const executables = removeExecutables(binDir)
  if (executables.length > 0) journal.write('executables removed', { folder: binDir, executables })
}
