import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { fileURLToPath } from 'node:url'
import type { TestContext } from 'vitest'
import { requireTool } from '../host.ts'

const sources = '/usr/share/gocode' // Debian's golang-github-appc-cni-dev

/** main.go beside this file, compiled; the folder goes with the process. */
export function buildCnitool(context: TestContext): string {
  const go = requireTool('go', context)
  if (built) return built
  if (!existsSync(`${sources}/src/github.com/containernetworking/cni/libcni`)) {
    const reason = 'libcni is not installed (golang-github-appc-cni-dev)'
    if (process.env.CI) throw new Error(`${reason}; under CI it must be there`)
    context.skip(reason)
  }
  const folder = mkdtempSync(`${tmpdir()}/cnitool-`)
  process.once('exit', () => rmSync(folder, { recursive: true }))
  const main = fileURLToPath(new URL('main.go', import.meta.url))
  // The library is older than Go modules.
  const env = { ...process.env, GO111MODULE: 'off', GOPATH: sources, GOCACHE: process.env.GOCACHE ?? `${folder}/cache` }
  const { status, stderr } = spawnSync(go, ['build', '-o', `${folder}/cnitool`, main], { env, encoding: 'utf8' })
  if (status !== 0) throw new Error(`go build: ${stderr}`)
  built = `${folder}/cnitool`
  return built
}

let built: string | undefined
