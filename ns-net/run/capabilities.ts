import { CliError } from '../errors.ts'

/** capabilities(7), in the kernel's order. */
const all = [
  'chown',
  'dac_override',
  'dac_read_search',
  'fowner',
  'fsetid',
  'kill',
  'setgid',
  'setuid',
  'setpcap',
  'linux_immutable',
  'net_bind_service',
  'net_broadcast',
  'net_admin',
  'net_raw',
  'ipc_lock',
  'ipc_owner',
  'sys_module',
  'sys_rawio',
  'sys_chroot',
  'sys_ptrace',
  'sys_pacct',
  'sys_admin',
  'sys_boot',
  'sys_nice',
  'sys_resource',
  'sys_time',
  'sys_tty_config',
  'mknod',
  'lease',
  'audit_write',
  'audit_control',
  'setfcap',
  'mac_override',
  'mac_admin',
  'syslog',
  'wake_alarm',
  'block_suspend',
  'audit_read',
  'perfmon',
  'bpf',
  'checkpoint_restore',
] as const

/** What a command keeps unless told: podman's set, and net_raw for ping. docs/containers.md lists it. */
export const defaultCapabilities = [
  'chown',
  'dac_override',
  'fowner',
  'fsetid',
  'kill',
  'net_bind_service',
  'net_raw',
  'setfcap',
  'setgid',
  'setpcap',
  'setuid',
  'sys_chroot',
]

/** The capabilities kept when these are added: `all`, `NET_ADMIN`, `cap_net_admin` or `net_admin`. */
export function keptCapabilities(added: readonly string[]): 'all' | readonly string[] {
  const names = added.map((text) => {
    const name = text.toLowerCase().replace(/^cap_/, '')
    if (name === 'all' || (all as readonly string[]).includes(name)) return name
    throw new CliError('usage', `--cap-add ${text}: no such capability`, 'capabilities(7) lists them; or: all')
  })
  return names.includes('all') ? 'all' : [...new Set([...defaultCapabilities, ...names])]
}
