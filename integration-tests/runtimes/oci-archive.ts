import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Machine } from './machine.ts'

const architectures: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' }

/**
 * Packs a root filesystem of the machine as an image with one layer, in the layout that `ctr image import` reads:
 * content under its hash, and an index that leads to it.
 */
export function packImage(
  { host, run }: Machine,
  rootFilesystem: string,
  image: { readonly name: string; readonly command: readonly string[] },
): string {
  const directory = '/run/image'
  const archive = `${directory}.tar`
  const blobs = join(host.file(directory), 'blobs/sha256')
  mkdirSync(blobs, { recursive: true })

  const store = (mediaType: string, content: Buffer) => {
    const hash = createHash('sha256').update(content).digest('hex')
    writeFileSync(join(blobs, hash), content)
    return { mediaType: `application/vnd.oci.image.${mediaType}`, digest: `sha256:${hash}`, size: content.length }
  }
  const storeJson = (mediaType: string, value: object) => store(mediaType, Buffer.from(JSON.stringify(value)))

  run(['tar', '--create', '--file', archive, '--directory', rootFilesystem, '.'])
  const layer = store('layer.v1.tar', readFileSync(host.file(archive)))
  const config = storeJson('config.v1+json', {
    architecture: architectures[process.arch] ?? process.arch,
    os: 'linux',
    config: { Entrypoint: image.command },
    rootfs: { type: 'layers', diff_ids: [layer.digest] },
  })
  const manifest = storeJson('manifest.v1+json', { schemaVersion: 2, config, layers: [layer] })
  const index = {
    schemaVersion: 2,
    manifests: [{ ...manifest, annotations: { 'io.containerd.image.name': image.name } }],
  }
  writeFileSync(join(host.file(directory), 'index.json'), JSON.stringify(index))
  writeFileSync(join(host.file(directory), 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
  run(['tar', '--create', '--file', archive, '--directory', directory, '.'])
  return archive
}
