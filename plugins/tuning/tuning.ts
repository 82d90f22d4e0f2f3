import { isKernelError } from '../../netlink-lib/errors.ts'
import { deleteFile } from '../../netlink-lib/files.ts'
import type { Link } from '../../netlink-lib/route/link.ts'
import { isWriteOnly } from '../../netlink-lib/sysctl.ts'
import { teardown } from '../contract/dispatch.ts'
import { CniError, codes } from '../contract/errors.ts'
import type { Container, Host } from '../contract/host.ts'
import type { Plugin } from '../contract/plugin.ts'
import { type Request, requirePrevResult } from '../contract/request.ts'
import type { Result } from '../contract/result.ts'
import type { Rollback } from '../contract/rollback.ts'
import { refuseForbidden } from './allowlist.ts'
import { deleteBackup, findBackup, staleBackups, writeBackup } from './backup.ts'
import { type LinkTuning, parseTuning, type Sysctl, type TuningConf } from './config.ts'

/** The keys of settings, typed. */
const settingsOf = (link: LinkTuning) => Object.keys(link) as (keyof LinkTuning)[]

const asksNothing = ({ sysctls, link }: TuningConf): boolean => sysctls.length === 0 && settingsOf(link).length === 0

/** What the link has now, of the settings that are asked for. */
const presentOf = (link: Link, wanted: LinkTuning): LinkTuning =>
  Object.fromEntries(settingsOf(wanted).map((setting) => [setting, link[setting]]))

function requireLink(container: Container, { ifName, netns }: Request): Link {
  const link = container.route.findLink(ifName)
  if (link) return link
  throw new CniError(
    codes.conflict,
    `interface "${ifName}" is not in ${netns}`,
    'tuning changes an interface: put it after the plugin that makes one',
  )
}

function setSysctls(container: Container, sysctls: readonly Sysctl[], rollback: Rollback): void {
  for (const { key, name, value } of sysctls) {
    const old = container.sysctl.find(name)
    container.sysctl.set(name, value)
    if (old !== undefined) rollback.onFailure(`restore sysctl ${key}`, () => container.sysctl.set(name, old))
  }
}

/** The result with what is different now about the container's interface. */
function tuned(result: Result, { ifName }: Request, { mac, mtu }: LinkTuning): Result {
  const interfaces = result.interfaces.map((each) =>
    each.name === ifName && each.sandbox ? { ...each, mac: mac ?? each.mac, mtu: mtu ?? each.mtu } : each,
  )
  return { ...result, interfaces }
}

/** A driver's refusal, which another attempt would meet again. */
const refusals = ['EBUSY', 'EINVAL', 'EOPNOTSUPP', 'EADDRNOTAVAIL', 'ERANGE', 'ENODEV']

/** Each setting by itself, whatever the others do. The link is about to be deleted: a refusal is only reported. */
function restore(container: Container, link: Link, old: LinkTuning, host: Host): void {
  const steps = settingsOf(old).map((setting) => () => {
    if (old[setting] === undefined || old[setting] === link[setting]) return
    try {
      container.route.setLink(link, { [setting]: old[setting] })
    } catch (error) {
      if (!isKernelError(error, ...refusals)) throw error
      host.warn(`tuning: not restored: ${error.message}`)
    }
  })
  teardown(...steps)
}

function different(what: string, actual: unknown, expected: unknown): never {
  throw new CniError(
    codes.checkFailed,
    `CHECK: ${what} is ${actual}, expected ${expected}`,
    'something changed it since ADD; set it back, or delete and add the container again',
  )
}

/** The kernel separates the numbers of one sysctl by tabs, whatever was written. */
const words = (text: string | undefined) => text?.trim().split(/\s+/).join(' ')

/** Chained: sysctls and settings of the container's interface. */
export const tuning: Plugin<TuningConf> = {
  type: 'tuning',
  parse: parseTuning,

  add(conf, request, host): Result {
    const prevResult = requirePrevResult(request)
    if (asksNothing(conf)) return prevResult
    refuseForbidden(conf.sysctls)
    using container = host.openContainer(request.netns)
    const link = requireLink(container, request)
    using rollback = host.rollback()
    const old = presentOf(link, conf.link)
    const changesLink = settingsOf(old).length > 0
    if (changesLink) {
      rollback.onFailure('delete the backup', () => deleteBackup(conf.dataDir, request))
      writeBackup(conf.dataDir, request, old)
    }
    setSysctls(container, conf.sysctls, rollback)
    if (changesLink) {
      rollback.onFailure(`restore ${link.name}`, () => container.route.setLink(link, old))
      container.route.setLink(link, conf.link)
    }
    rollback.commit()
    return tuned(prevResult, request, conf.link)
  },

  del({ dataDir }, request, host): void {
    const old = findBackup(dataDir, request)
    if (!old) return
    using container = host.findContainer(request.netns)
    const link = container?.route.findLink(request.ifName)
    if (container && link) restore(container, link, old, host)
    deleteBackup(dataDir, request) // after the settings: a DEL that failed can be repeated
  },

  check(conf, request, host): void {
    requirePrevResult(request)
    if (asksNothing(conf)) return
    using container = host.openContainer(request.netns)
    for (const { key, name, value } of conf.sysctls) {
      const actual = container.sysctl.find(name)
      if (actual === undefined && container.netns.run(() => isWriteOnly(name))) continue
      if (words(actual) !== words(value)) different(`sysctl ${key}`, actual ?? 'missing', value)
    }
    const link = container.route.findLink(request.ifName)
    if (!link) throw new CniError(codes.checkFailed, `CHECK: interface "${request.ifName}" is gone`)
    for (const setting of settingsOf(conf.link))
      if (link[setting] !== conf.link[setting])
        different(`${setting} of "${link.name}"`, link[setting], conf.link[setting])
  },

  gc({ dataDir }, request): void {
    const stale = staleBackups(dataDir, request.network, request.validAttachments)
    teardown(...stale.map((file) => () => deleteFile(file)))
  },

  status: (conf) => refuseForbidden(conf.sysctls),
}
