import { bandwidthExecutable } from '../plugins/bandwidth/main.ts'
import { bridgeExecutable } from '../plugins/bridge/main.ts'
import { chaosExecutable } from '../plugins/chaos/main.ts'
import { type Executable, runExecutable } from '../plugins/contract/executable.ts'
import { firewallExecutable } from '../plugins/firewall/main.ts'
import { hostLocalExecutable } from '../plugins/host-local/main.ts'
import { loopbackExecutable } from '../plugins/loopback/main.ts'
import { natExecutable } from '../plugins/nat/main.ts'
import { portmapExecutable } from '../plugins/portmap/main.ts'
import { staticExecutable } from '../plugins/static/main.ts'
import { tuningExecutable } from '../plugins/tuning/main.ts'
import { vethExecutable } from '../plugins/veth/main.ts'

/**
 * The one image behind every executable: what it is depends on the name it was started by. Everything imported here is
 * small, and is all that VERSION loads.
 */
const executables: ReadonlyMap<string, Executable> = new Map([
  ['bandwidth', bandwidthExecutable],
  ['bridge', bridgeExecutable],
  ['chaos', chaosExecutable],
  ['firewall', firewallExecutable],
  ['host-local', hostLocalExecutable],
  ['loopback', loopbackExecutable],
  ['nat', natExecutable],
  ['portmap', portmapExecutable],
  ['static', staticExecutable],
  ['tuning', tuningExecutable],
  ['veth', vethExecutable],
  ['ptp', vethExecutable],
])

const executable = executables.get(process.argv0.slice(process.argv0.lastIndexOf('/') + 1))
if (executable) void runExecutable(executable)
else void import('./cli.ts').then(({ runCli }) => runCli(process.argv.slice(2)))
