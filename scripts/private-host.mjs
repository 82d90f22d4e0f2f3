// A throw-away host: new network and mount namespaces, with everything that networking tools write to in memory.
//
//   node scripts/private-host.mjs [--user] -- COMMAND...

import { spawn, spawnSync } from 'node:child_process'
import { accessSync, constants, readFileSync } from 'node:fs'
import { constants as os } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isMain } from './install.mjs'

export const prologue = fileURLToPath(new URL('private-host.sh', import.meta.url))

/** What a process ends with when this machine refuses a private host. */
export const refusedExit = 5

const userFlags = ['--user', '--map-root-user', '--net', '--mount']
const rootFlags = ['--net', '--mount']

/** Path of a program, undefined when it's not installed. The directories that an ordinary user's PATH lacks count too. */
export function findProgram(name) {
  for (const directory of [...(process.env.PATH ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin']) {
    const path = join(directory, name)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // Not here: the next directory.
    }
  }
  return undefined
}

function setting(name) {
  try {
    return readFileSync(`/proc/sys/${name}`, 'utf8').trim()
  } catch {
    return undefined // this kernel doesn't have it
  }
}

/** Why user namespaces don't work here and what to do about it, in one sentence. */
function userNamespaceRefusal(stderr) {
  if (setting('user/max_user_namespaces') === '0')
    return 'user namespaces are switched off here (user.max_user_namespaces is 0): run `sudo sysctl -w user.max_user_namespaces=15000`, or run this as root'
  if (setting('kernel/unprivileged_userns_clone') === '0')
    return 'user namespaces are reserved for root here (kernel.unprivileged_userns_clone is 0): run `sudo sysctl -w kernel.unprivileged_userns_clone=1`, or run this as root'
  if (setting('kernel/apparmor_restrict_unprivileged_userns') === '1')
    return 'AppArmor restricts user namespaces here (kernel.apparmor_restrict_unprivileged_userns is 1): run `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or run this as root'
  return `this machine refuses user namespaces (${stderr.trim().replaceAll('\n', '; ')}): run this as root, or, in a container, start the container with --privileged`
}

/**
 * How to enter a private host here: the arguments of unshare(1), or the sentence that says why there is none.
 * Tried with the whole prologue, since AppArmor lets the namespace be made and refuses its mounts.
 */
export function enterPrivateHost({ user = process.getuid() !== 0 } = {}) {
  if (!findProgram('unshare')) return { refusal: 'unshare is not installed: run `sudo apt-get install util-linux`' }
  const flags = user ? userFlags : rootFlags
  const trial = spawnSync('unshare', [...flags, '--', 'sh', prologue, 'true'], { encoding: 'utf8' })
  if (trial.status === 0) return { flags }
  if (user) return { refusal: userNamespaceRefusal(trial.stderr) }
  const unprivileged = enterPrivateHost({ user: true })
  return unprivileged.flags
    ? unprivileged
    : {
        refusal: `root may not make network and mount namespaces here (${trial.stderr.trim().replaceAll('\n', '; ')}): in a container, start the container with --privileged`,
      }
}

/**
 * Runs a command inside a private host and resolves to its exit code; SIGTERM, SIGINT and SIGHUP are passed on.
 * As root in plain namespaces, otherwise, or with `user`, in a user namespace where the caller is root.
 */
export async function privateHost(command, { user, env = process.env, cwd } = {}) {
  const { flags, refusal } = enterPrivateHost({ user })
  if (refusal) {
    process.stderr.write(`${refusal}\n`)
    return refusedExit
  }
  // unshare and the prologue both become the next program, so this child is the command itself.
  const child = spawn('unshare', [...flags, '--', 'sh', prologue, ...command], {
    env: { ...env, NS_NET_PRIVATE_HOST: '1' }, // the integration tests refuse to run without it
    cwd,
    stdio: 'inherit',
  })
  // A terminal sends Ctrl-C to the child as well; a second one would mean "at once" to many programs.
  const passOn = (signal) => (signal === 'SIGINT' && process.stdin.isTTY) || child.kill(signal)
  const signals = ['SIGTERM', 'SIGINT', 'SIGHUP']
  for (const signal of signals) process.on(signal, passOn)
  try {
    return await new Promise((resolve, reject) => {
      child.on('error', reject)
      child.on('exit', (code, signal) => resolve(code ?? 128 + os.signals[signal]))
    })
  } finally {
    for (const signal of signals) process.off(signal, passOn)
  }
}

if (isMain(import.meta.url)) {
  const end = process.argv.indexOf('--')
  const options = process.argv.slice(2, end < 0 ? undefined : end)
  const command = end < 0 ? [] : process.argv.slice(end + 1)
  if (command.length === 0 || options.some((option) => option !== '--user')) {
    process.stderr.write('usage: node scripts/private-host.mjs [--user] -- COMMAND...\n')
    process.exit(2)
  }
  process.exitCode = await privateHost(command, options.includes('--user') ? { user: true } : {})
}
