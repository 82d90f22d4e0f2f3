import { existsSync, readFileSync } from 'node:fs'
import type { TestContext } from 'vitest'
import type { Place } from '../host.ts'
import { type Cri, connectCri, type PodConfig, type PodStatus } from './cri.ts'
import { createMachine, type Machine, plugins } from './machine.ts'
import { packImage } from './oci-archive.ts'
import { makeRootFilesystem, webServer } from './root-filesystem.ts'
import { until } from './until.ts'

/* containerd with one network, asked for pods as a kubelet asks. A pod is its first container only, a web server. */

const image = 'localhost/pause:1'
const rootFilesystem = '/run/root-filesystem'
const socket = '/run/containerd/containerd.sock'
const log = '/run/containerd.log'

/** crun leaves cgroups alone: the tests may not have a tree of their own. Scores below one's own need a privilege. */
const configuration = `
version = 2
root = "/run/containerd-content"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "${socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "${image}"
restrict_oom_score_adj = true
disable_cgroup = true
disable_apparmor = true
disable_tcp_service = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "${plugins}"
conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
default_runtime_name = "crun"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun.options]
BinaryName = "/run/crun"
`
/** For containerd, which takes no options for it. */
export const crunWithoutGroups = '#!/bin/sh\nexec crun --cgroup-manager=disabled "$@"\n'

export interface Containerd extends Machine {
  readonly cri: Cri
  /** Ends containerd without a chance to tidy up, and starts it anew. The pods run on. */
  restart(): Promise<void>
}

/** Starts it with our executables and this conflist, on a machine of its own. */
export async function startContainerd(context: TestContext, conflist: object): Promise<Containerd> {
  const machine = await createMachine(context, ['containerd', 'containerd-shim-runc-v2', 'ctr', 'crun', 'busybox'])
  const { host } = machine
  const cri = connectCri(host.file(socket))
  const dispose = () => {
    cri[Symbol.dispose]()
    machine[Symbol.dispose]()
  }
  // containerd listens some time before it serves pods.
  const soon = (what: string, ask: () => Promise<boolean>) => until(what, () => ask().catch(() => false))
  const isReady = async () => (await cri.conditions()).every(({ status }) => status)
  const start = async () => {
    machine.start(['sh', '-c', `echo $$ >/run/containerd.pid; exec containerd >>${log} 2>&1`])
    await until('containerd listens', () => machine.run(['ctr', 'version'], { expectFailure: 'maybe' }).status === 0)
  }
  try {
    makeRootFilesystem(machine, rootFilesystem, context)
    machine.run(['tee', '/run/crun'], { input: crunWithoutGroups })
    machine.run(['chmod', '755', '/run/crun'])
    machine.run(['tee', '/etc/containerd/config.toml'], { input: configuration })
    await start()
    const archive = packImage(machine, rootFilesystem, { name: image, command: webServer })
    machine.run(['ctr', '--namespace=k8s.io', 'image', 'import', '--snapshotter=native', archive])
    await soon('containerd has the image', () => cri.hasImage(image))
    // By a rename inside the folder: containerd takes no notice of files created in it.
    machine.run(['tee', '/etc/cni/net.d/.new'], { input: JSON.stringify(conflist) })
    machine.run(['mv', '/etc/cni/net.d/.new', '/etc/cni/net.d/10-pods.conflist'])
    await soon('containerd has read the conflist', isReady)
  } catch (error) {
    if (existsSync(host.file(log))) console.error(readFileSync(host.file(log), 'utf8'))
    dispose()
    throw error
  }
  return {
    ...machine,
    cri,
    async restart() {
      machine.sh('kill -9 $(cat /run/containerd.pid)')
      await start()
      await soon('containerd is ready again', isReady)
    },
    [Symbol.dispose]: dispose,
  }
}

export const pod = (name: string, more: Partial<PodConfig> = {}): PodConfig => ({
  metadata: { name, uid: `uid-of-${name}`, namespace: 'tests' },
  hostname: name,
  linux: {},
  ...more,
})

/** The network of a pod, with the host's programs. */
export const podPlace = (machine: Machine, { netns }: PodStatus): Pick<Place, 'run'> => ({
  run: (command, options) => machine.run(['nsenter', `--net=${netns}`, ...command], options),
})

/** As often as a kubelet may ask: every call again. */
export async function unmake(cri: Cri, id: string): Promise<void> {
  for (const verb of [cri.stopPod, cri.stopPod, cri.removePod, cri.removePod]) await verb(id)
}

/** Killing a process that is just being reaped is an error of containerd's. */
export const untilEnded = (cri: Cri, id: string) =>
  until(`containerd knows that ${id} has ended`, async () => (await cri.podStatus(id)).state === 'SANDBOX_NOTREADY')
