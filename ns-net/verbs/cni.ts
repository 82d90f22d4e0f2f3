import type { Command } from 'commander'
import type { CniOptions } from '../commands/cni.ts'
import { collect, print, requireRoot, verb } from './verb.ts'

/** Conflists applied to namespaces as a container runtime does it, with whatever plugins they name. */
export function cniVerbs(program: Command): void {
  const cni = verb(program, 'Host', 'cni', 'run a CNI conflist: add, del, check, gc, status, version', [
    'sudo ip netns add box',
    'sudo ns-net cni add lan.conflist box',
    'sudo ns-net cni del lan.conflist box',
  ])
  attachmentVerb(cni, 'add', 'attach a namespace, print the result, and keep it for del and check').action(
    async (which: string, where: string, options: CniOptions, command: Command) => {
      requireRoot('cni add')
      print((await import('../commands/cni.ts')).cniAdd(which, where, options), command)
    },
  )
  attachmentVerb(cni, 'del', 'detach it; the namespace may be gone').action(
    async (which: string, where: string, options: CniOptions) => {
      requireRoot('cni del')
      ;(await import('../commands/cni.ts')).cniDel(which, where, options)
    },
  )
  attachmentVerb(cni, 'check', 'fail when something of it is missing or different').action(
    async (which: string, where: string, options: CniOptions) => {
      requireRoot('cni check')
      ;(await import('../commands/cni.ts')).cniCheck(which, where, options)
    },
  )
  networkVerbs(cni)
}

function networkVerbs(cni: Command): void {
  networkVerb(cni, 'gc', 'delete the attachments that are not told to be valid', [
    'sudo ns-net cni gc lan.conflist --valid 3f2a:eth0 --valid 77b1:eth0',
  ])
    .option('--valid <id:if>', 'container id and interface; may be repeated (default: none is valid)', collect)
    .action(async (which: string, { valid }: { valid?: string[] }, command: Command) => {
      requireRoot('cni gc')
      print((await import('../commands/cni.ts')).cniGc(which, valid), command)
    })
  networkVerb(cni, 'status', 'whether each plugin could serve an add; exit code 1 when one could not', [
    'sudo ns-net cni status lan.conflist',
  ]).action(async (which: string, _options: object, command: Command) => {
    print((await import('../commands/cni.ts')).cniStatus(which), command)
  })
  networkVerb(cni, 'version', 'the versions that each plugin speaks; exit code 1 when one cannot serve the list', [
    'ns-net cni version lan.conflist --json',
  ]).action(async (which: string, _options: object, command: Command) => {
    print((await import('../commands/cni-version.ts')).cniVersion(which), command)
  })
}

const networkVerb = (cni: Command, name: string, description: string, examples: readonly string[]): Command =>
  verb(cni, 'Host', name, description, examples).argument(
    '<conflist>',
    'a file, - for stdin, or the name of a network in NETCONFPATH (/etc/cni/net.d)',
  )

function attachmentVerb(cni: Command, name: string, description: string): Command {
  return networkVerb(cni, name, description, [
    `sudo ns-net cni ${name} lan.conflist box`,
    `sudo CNI_PATH=/usr/lib/cni ns-net cni ${name} lan pid:1234 --if net1 --args 'IgnoreUnknown=1;IP=10.1.0.9'`,
  ])
    .argument('<target>', 'NAME, path:FILE, pid:N, podman:NAME or docker:NAME')
    .option('--if <name>', 'the interface inside (default: CNI_IFNAME, else eth0)')
    .option('--container-id <id>', 'CNI_CONTAINERID (default: made of the path of the namespace, as cnitool does)')
    .option('--args <pairs>', 'KEY=VALUE;KEY=VALUE (default: CNI_ARGS)')
    .option('--capability-args <json>', 'values for the capabilities that plugins declare (default: CAP_ARGS)')
}
