#!/usr/bin/env node
// Makes an OCI archive of the node agent with buildah, from nothing: our executables and the C library's files that they
// need. Nothing is pulled. Usage: npm run image -- [FILE]
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const tag = `ns-net:${version}`

function run(program, ...args) {
  const child = spawnSync(program, args, { encoding: 'utf8' })
  if (child.error?.code === 'ENOENT') giveUp(`${program} is not installed: apt-get install ${program}`)
  if (child.status !== 0) giveUp(`${program} ${args.join(' ')}: exit ${child.status}\n${child.stderr ?? child.error}`)
  return child.stdout.trim()
}

function giveUp(message) {
  console.error(`image: ${message}`)
  process.exit(1)
}

/** The loader and the shared libraries, as ldd(1) finds them; those that name lookups load later come with glibc's own. */
function libraries(executable) {
  const lines = run('ldd', executable).split('\n')
  const files = lines.flatMap((line) => /(?:=> )?(\/\S+) \(0x/.exec(line)?.[1] ?? [])
  const folder = dirname(files.find((file) => file.endsWith('/libc.so.6')) ?? giveUp('ldd names no libc.so.6'))
  const byName = ['libresolv.so.2', 'libnss_dns.so.2', 'libnss_files.so.2'].map((name) => join(folder, name))
  return [...files, ...byName.filter((file) => existsSync(file))]
}

const target = resolve(process.argv[2] ?? join(root, `dist/ns-net-${version}.tar`))
run(process.execPath, join(root, 'scripts/build.mjs'))
const bin = join(root, 'dist/bin')

const folder = mkdtempSync(join(tmpdir(), 'ns-net-image-'))
try {
  cpSync(bin, join(folder, 'opt/ns-net/bin'), { recursive: true, verbatimSymlinks: true })
  for (const file of libraries(join(bin, 'ns-net'))) {
    mkdirSync(join(folder, dirname(file)), { recursive: true })
    cpSync(realpathSync(file), join(folder, file))
  }
  for (const empty of ['tmp', 'proc', 'sys', 'run', 'var/lib/cni', 'etc/cni/net.d', 'opt/cni/bin'])
    mkdirSync(join(folder, empty), { recursive: true })
  const container = run('buildah', 'from', 'scratch')
  try {
    run('buildah', 'copy', '--quiet', container, folder, '/')
    run(
      'buildah',
      'config',
      '--entrypoint',
      '["/opt/ns-net/bin/ns-net"]',
      '--cmd',
      'agent --install-from /opt/ns-net/bin',
      '--label',
      `org.opencontainers.image.version=${version}`,
      '--label',
      'org.opencontainers.image.licenses=Apache-2.0',
      container,
    )
    rmSync(target, { force: true })
    mkdirSync(dirname(target), { recursive: true })
    // The full name: containerd's CRI knows `ns-net:0.1.0` only as docker.io/library/ns-net:0.1.0.
    run('buildah', 'commit', '--quiet', container, `oci-archive:${target}:docker.io/library/${tag}`)
  } finally {
    run('buildah', 'rm', container)
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}
console.log(`image: ${target}  ${tag}  ${Math.round(statSync(target).size / 1e6)} MB`)
