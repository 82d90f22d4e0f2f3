import type { SysctlName } from '../../netlink-lib/sysctl.ts'
import { inside, type Place } from './place.ts'
import { word } from './words.ts'

/** Names are separated by slashes where one of them, a link's, has a dot. */
export function sysctlCommand(place: Place, name: SysctlName, value: string): string {
  const full = ['net', ...name].join(name.some((part) => part.includes('.')) ? '/' : '.')
  return inside(place, `sysctl -qw ${word(`${full}=${value}`)}`)
}
