// Runs a command under Debian's own kernel, in a virtual machine: for what the kernel of this machine lacks.
//
//   node scripts/debian-kernel.mjs -- COMMAND...
//
// The machine in there has the files of this one; what it changes stays in its memory. It starts in the caller's
// directory with the caller's environment, as root, without stdin and without a network but lo. The processor is
// emulated (no /dev/kvm is asked for), so everything takes about ten times as long. Neither root nor anything of the
// network is needed out here. The kernel's package is downloaded once and unpacked into node_modules/.cache.

import { spawn, spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { constants as os, tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isMain, root } from './install.mjs'
import { findProgram, refusedExit } from './private-host.mjs'

const scripts = fileURLToPath(new URL('.', import.meta.url)).replace(/\/$/, '')
const cache = join(root, 'node_modules/.cache/debian-kernel')
const metapackage = 'linux-image-amd64' // always depends on the newest kernel of the release

/** Thrown with the one sentence that says why there is no such machine here and what to do about it. */
class Refusal extends Error {}

const memory = 4096 // MiB

/** Drivers of what the machine is made of; the rest is loaded from the cache when it is asked for. */
const drivers = ['virtio_pci', '9pnet_virtio', '9p', 'overlay', 'virtio_console']

function run(program, args, options = {}) {
  const child = spawnSync(findProgram(program) ?? program, args, { maxBuffer: 2 ** 28, ...options })
  if (child.status === 0) return child.stdout
  const reason = child.error?.message ?? `${child.stderr}`.trim().replaceAll('\n', '; ')
  throw new Refusal(`${program} ${args.join(' ')}: ${reason || `exit ${child.status}`}`)
}

/** Why there is no such machine here, in one sentence; undefined when there is. Says nothing of the download. */
export function debianKernelRefusal() {
  if (process.arch !== 'x64')
    return `Debian's kernel is run on x86-64 only, and this machine is ${process.arch}: there the tests run under its own kernel (npm test)`
  const needed = [
    ['qemu-system-x86_64', 'qemu-system-x86'],
    ['busybox', 'busybox-static'],
    ['cpio', 'cpio'],
    ['modprobe', 'kmod'],
    ['setpriv', 'util-linux'],
  ]
  const missing = needed.filter(([program]) => !findProgram(program))
  if (missing.length > 0) {
    const [programs, packages] = [0, 1].map((i) => missing.map((pair) => pair[i]))
    return `${programs.join(', ')} not installed: run \`sudo apt-get install ${packages.join(' ')}\``
  }
  if (!findProgram('apt-get') || !findProgram('dpkg-deb'))
    return "apt-get is not installed: the kernel's package comes from Debian's archive, so this needs Debian"
  return undefined
}

/** Name of the newest kernel's package: a dependency of the package that has no files of its own. */
function kernelPackage() {
  const listed = `${run('apt-cache', ['depends', '--important', metapackage])}`
  const name = /Depends: (linux-image-\d\S*)/.exec(listed)?.[1]
  if (!name)
    throw new Refusal(
      `apt knows no kernel (${metapackage} depends on none): run \`sudo apt-get update\`; only Debian has this package`,
    )
  return name
}

/**
 * The unpacked package, which is never installed: {release, folder}. From the cache, or else downloaded into it. Another
 * that is at it at the same time does no harm: a folder gets its name when it is whole.
 */
function fetchKernel() {
  const name = kernelPackage()
  const release = name.replace('linux-image-', '')
  const folder = join(cache, release)
  if (existsSync(folder)) return { release, folder }

  mkdirSync(cache, { recursive: true })
  const unfinished = mkdtempSync(join(cache, 'unfinished-'))
  try {
    process.stderr.write(`debian-kernel: downloads ${name} into ${cache}\n`)
    try {
      run('apt-get', ['download', name], { cwd: unfinished })
    } catch (error) {
      throw new Refusal(`${error.message}: it needs Debian's archive; run \`sudo apt-get update\` and try again`)
    }
    const archive = readdirSync(unfinished).find((file) => file.endsWith('.deb'))
    const unpacked = join(unfinished, 'unpacked')
    run('dpkg-deb', ['--extract', join(unfinished, archive), unpacked])
    // Debian 13 has its modules in /usr/lib.
    if (!existsSync(join(unpacked, 'lib'))) renameSync(join(unpacked, 'usr/lib'), join(unpacked, 'lib'))
    run('depmod', ['--basedir', unpacked, release]) // what installing it would do
    if (!existsSync(folder)) renameSync(unpacked, folder)
  } finally {
    rmSync(unfinished, { recursive: true, force: true })
  }
  return { release, folder }
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`

/** Copies the drivers and what they need, uncompressed, and tells their file names in the order to load them. */
function addModules(initramfs, { release, folder }) {
  const options = ['--show-depends', '--dirname', folder, '--set-version', release]
  const listed = drivers.map((driver) => `${run('modprobe', [...options, driver])}`).join('')
  const files = new Set([...listed.matchAll(/^insmod (\S+)/gm)].map(([, file]) => file))
  mkdirSync(join(initramfs, 'modules'))
  return [...files].map((file) => {
    const name = basename(file).replace(/\.xz$/, '')
    writeFileSync(
      join(initramfs, 'modules', name),
      file.endsWith('.xz') ? run('xz', ['--decompress', '--stdout', file]) : readFileSync(file),
    )
    return name
  })
}

/** An archive of busybox, the drivers and our /init, which only serves to find the real root. */
function makeInitramfs(kernel, job, directory) {
  const initramfs = join(job, 'initramfs')
  for (const place of ['bin', 'dev', 'proc', 'sys', 'lower', 'changes', 'root'])
    mkdirSync(join(initramfs, place), { recursive: true })
  cpSync(findProgram('busybox'), join(initramfs, 'bin/busybox'), { dereference: true })
  for (const name of ['sh', 'mount', 'mkdir', 'insmod', 'switch_root'])
    symlinkSync('busybox', join(initramfs, 'bin', name))
  writeFileSync(join(initramfs, 'init'), readFileSync(join(scripts, 'debian-kernel.sh')), { mode: 0o755 })
  const settings = { modules: addModules(initramfs, kernel).join(' '), release: kernel.release, kernel: kernel.folder }
  const lines = Object.entries({ ...settings, job, directory, scripts }).map(
    ([key, value]) => `${key}=${quoted(value)}`,
  )
  writeFileSync(join(initramfs, 'settings'), `${lines.join('\n')}\n`)
  const names = ['.', ...readdirSync(initramfs, { recursive: true })].join('\n')
  const archive = run('cpio', ['--create', '--format=newc', '--quiet'], { cwd: initramfs, input: names })
  writeFileSync(join(job, 'initramfs.cpio'), archive)
}

/** The command as a shell script, with its environment; the shell's own variables are left to it. */
function commandScript(command, env) {
  const names = Object.keys(env).filter((name) => /^[A-Za-z_]\w*$/.test(name) && !['_', 'PWD', 'OLDPWD'].includes(name))
  const exports = names.map((name) => `export ${name}=${quoted(env[name])}\n`).join('')
  return `${exports}exec ${command.map(quoted).join(' ')}\n`
}

/** Listens at `path` for a port of the machine's and writes what comes through it. Returns what waits for all of it. */
async function listen(path, target) {
  const closed = []
  const server = createServer((connection) => {
    closed.push(new Promise((resolve) => connection.on('close', resolve)))
    connection.pipe(target, { end: false })
  })
  await new Promise((resolve, reject) => server.on('error', reject).listen(path, resolve))
  return async () => {
    server.close()
    await Promise.all(closed)
  }
}

function qemuArguments({ release, folder }, job) {
  const port = (name) => [
    ...['-chardev', `socket,id=${name},path=${job}/${name}`],
    ...['-device', `virtserialport,chardev=${name},name=${name}`],
  ]
  // A comma separates settings and stands doubled for itself.
  const share = (path, tag, more) =>
    `local,path=${path.replaceAll(',', ',,')},mount_tag=${tag},security_model=none,multidevs=remap${more}`
  return [
    ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2', '-m', String(memory)],
    ...['-nodefaults', '-no-reboot', '-display', 'none', '-nic', 'none', '-serial', `file:${job}/console`],
    ...['-kernel', `${folder}/boot/vmlinuz-${release}`, '-initrd', `${job}/initramfs.cpio`],
    ...['-append', 'console=ttyS0 quiet panic=-1'],
    ...['-virtfs', share('/', 'machine', ',readonly=on'), '-virtfs', share(job, 'job', '')],
    ...['-device', 'virtio-serial', ...port('stdout'), ...port('stderr')],
  ]
}

/** Starts qemu and resolves when it has ended: to the signal that ended it, if one that came to us did. */
async function runQemu(qemuOptions) {
  // Ends with this process, however that ends.
  const qemu = spawn('setpriv', ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...qemuOptions], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  let interrupted
  const interrupt = (signal) => {
    interrupted = signal
    qemu.kill('SIGKILL')
  }
  const signals = ['SIGTERM', 'SIGINT', 'SIGHUP']
  for (const signal of signals) process.on(signal, interrupt)
  try {
    await new Promise((resolve, reject) => qemu.on('error', reject).on('exit', resolve))
    return interrupted
  } finally {
    for (const signal of signals) process.off(signal, interrupt)
  }
}

/**
 * Runs a command under Debian's kernel and resolves to its exit code. What it writes into the folder `shared` is there
 * afterwards; nothing else is.
 */
export async function debianKernel(command, { env = process.env, cwd = process.cwd(), shared } = {}) {
  const job = shared ?? mkdtempSync(join(tmpdir(), 'debian-kernel-'))
  try {
    const refusal = debianKernelRefusal()
    if (refusal) throw new Refusal(refusal)
    const kernel = fetchKernel()
    makeInitramfs(kernel, job, cwd)
    writeFileSync(join(job, 'command'), commandScript(command, env))
    const drain = [await listen(join(job, 'stdout'), process.stdout), await listen(join(job, 'stderr'), process.stderr)]
    const interrupted = await runQemu(qemuArguments(kernel, job)).finally(() => Promise.all(drain.map((end) => end())))
    if (interrupted) return 128 + os.signals[interrupted]
    if (existsSync(join(job, 'status'))) return Number(readFileSync(join(job, 'status'), 'utf8'))
    const console = existsSync(join(job, 'console')) ? readFileSync(join(job, 'console'), 'utf8').trim() : ''
    process.stderr.write(`${console.split('\n').slice(-30).join('\n')}\n`)
    throw new Refusal('the virtual machine ended before the command did; its last words are above')
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    process.stderr.write(`debian-kernel: ${error.message}\n`)
    return refusedExit
  } finally {
    if (!shared) rmSync(job, { recursive: true, force: true })
  }
}

if (isMain(import.meta.url)) {
  const command = process.argv[2] === '--' ? process.argv.slice(3) : []
  if (command.length === 0) {
    process.stderr.write('usage: node scripts/debian-kernel.mjs -- COMMAND...\n')
    process.exit(2)
  }
  process.exitCode = await debianKernel(command)
}
