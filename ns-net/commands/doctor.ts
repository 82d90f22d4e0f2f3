import { attempt, type Check, type CheckState } from '../diagnosis/checkup.ts'
import { asRoot } from '../diagnosis/findings.ts'
import { checkBridgeNetfilter, checkFirewall } from '../diagnosis/firewall-state.ts'
import { checkKernel } from '../diagnosis/kernel-features.ts'
import { checkLabs, checkRanges } from '../diagnosis/lab-state.ts'
import { checkLeftovers } from '../diagnosis/leftovers.ts'
import { checkNameServers } from '../diagnosis/name-servers.ts'
import { World } from '../diagnosis/places.ts'
import { checkPrograms } from '../diagnosis/programs.ts'
import { checkCgroups, checkForwarding, checkNetnsDirectory, checkUserNamespaces } from '../diagnosis/settings.ts'
import { type Report, table } from '../output.ts'

const rank: readonly CheckState[] = ['ok', 'unknown', 'warn', 'fail']

/** What this machine lacks for labs, what is wrong with those that are there, and the remedy for each. */
export function doctor(): Report {
  using world = new World()
  const checks = [
    ...attempt('kernel', checkKernel),
    ...attempt('user-namespaces', checkUserNamespaces),
    ...attempt('cgroups', checkCgroups),
    ...attempt('ip_forward', checkForwarding),
    ...attempt('forward-policy', () => checkFirewall(world)),
    ...attempt('br_netfilter', checkBridgeNetfilter),
    ...attempt('/run/netns', checkNetnsDirectory),
    ...attempt('labs', () => checkLabs(world)),
    ...attempt('ranges', () => checkRanges(world)),
    ...attempt('leftovers', () => checkLeftovers(world)),
    ...attempt('programs', checkPrograms),
    ...attempt('name-servers', checkNameServers),
  ]
  const worst = rank[Math.max(...checks.map(({ state }) => rank.indexOf(state)))]!
  return { json: { state: worst, checks }, text: format(checks), negative: worst === 'fail' }
}

/** The table, and under it a remedy for each check that is not ok. */
function format(checks: readonly Check[]): string {
  const rows = checks.map(({ check, state, finding }) => [check, state, finding])
  const remedies = checks
    .filter(({ state }) => state !== 'ok')
    .flatMap(({ check, fix, advice }) => {
      if (fix !== undefined) return [`fix:     ${asRoot(fix)}    # ${check}\n`]
      return advice === undefined ? [] : [`advice:  ${check}: ${advice}\n`]
    })
  return `${table(['CHECK', 'STATE', 'FINDING'], rows)}${remedies.length > 0 ? '\n' : ''}${remedies.join('')}`
}
