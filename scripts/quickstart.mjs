// One minute with ns-net: installs, builds, and connects a container for real, in a host that is thrown away.

import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from './build.mjs'
import { giveUp, root } from './install.mjs'
import { enterPrivateHost, findProgram, privateHost } from './private-host.mjs'

const executable = join(root, 'dist/bin/ns-net')

function say(text) {
  process.stdout.write(`${text}\n`)
}

/** Shows a command and what it prints, and ends everything if it fails. */
function show(program, ...args) {
  const line = [program === executable ? 'ns-net' : program, ...args].join(' ')
  say(`\n$ ${line}`)
  const { status, signal, error } = spawnSync(program, args, { stdio: 'inherit' })
  if (status !== 0) giveUp(`quickstart: \`${line}\` failed: ${error?.message ?? signal ?? `exit ${status}`}`)
}

function output(program, ...args) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8' })
  if (status !== 0) giveUp(`quickstart: \`${program} ${args.join(' ')}\` failed: ${error?.message ?? stderr}`)
  return stdout.trim()
}

function filesIn(directory) {
  if (!existsSync(directory)) return []
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
}

/** What a container network consists of, read without ns-net: a tool must not be the judge of itself. */
function traces() {
  const links = readFileSync('/proc/net/dev', 'utf8').match(/^\s*[^\s:]+(?=:)/gm) ?? []
  return {
    links: links.map((name) => name.trim()),
    namespaces: filesIn('/run/netns'),
    // host-local keeps its lock and the last address handed out, so that the next container gets another one.
    leases: filesIn('/var/lib/cni/networks').filter((path) => /\/[0-9a-f]*[.:][0-9a-f.:]*$/i.test(path)),
    'nftables tables': findProgram('nft') ? output('nft', 'list', 'tables').split('\n').filter(Boolean) : [],
  }
}

function tour() {
  const before = traces()

  show(executable, 'add', 'mycontainer')
  show(executable, 'ls')
  if (findProgram('ip')) show('ip', 'netns', 'list')
  else say('\n(`ip netns list` would show it too; skipped, ip is not installed: sudo apt-get install iproute2)')
  show(executable, 'ping', 'mycontainer', '10.88.0.1', '-c', '1')
  show(executable, 'show', 'mycontainer')
  show(executable, 'del', 'mycontainer')

  const after = traces()
  for (const kind of Object.keys(before)) {
    const left = after[kind].filter((name) => !before[kind].includes(name))
    if (left.length > 0) giveUp(`quickstart: del left ${kind} behind: ${left.join(', ')}`)
  }
  if (output(executable, 'ls').includes('mycontainer')) giveUp('quickstart: ns-net ls still shows mycontainer')
  say('\nNothing is left of it: no link, namespace, lease or nftables table more than before.')
}

async function quickstart() {
  build()
  const asRoot = process.getuid() === 0
  const refusal = enterPrivateHost({ user: true }).refusal
  if (refusal && !asRoot) giveUp(`quickstart: ${refusal}`, 5)
  const where = refusal ? 'network namespace' : 'user and network namespace'
  say(`\nThis runs in a private ${where} that ends with it; nothing of this machine is changed.`)

  const code = await privateHost([process.execPath, fileURLToPath(import.meta.url), '--inside'], { user: !refusal })
  if (code !== 0) process.exit(code)
  say(`
Next:
  sudo dist/bin/ns-net add web            the same on this machine; sudo dist/bin/ns-net del web takes it back
  sudo cp -a dist/bin/. /opt/cni/bin/     the plugins for podman, containerd and Kubernetes
  README.md                               what else there is`)
}

if (process.argv.includes('--inside')) tour()
else await quickstart()
