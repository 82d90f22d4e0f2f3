import { NetlinkSocket, protocols } from '../../netlink-lib/socket.ts'
import { findSysctl } from '../../netlink-lib/sysctl.ts'
import { processesIn } from '../labs.ts'
import { imageOf, inOrder, isUp, type LinkImage, listLinks } from './images.ts'
import { namesIn, Peers } from './neighbourhood.ts'
import { NoWords } from './nft-values.ts'
import { inside, type Place, type Places, toolOf } from './place.ts'
import { configure, type LinkThere, recreate } from './recreate-link.ts'
import { sysctlCommand } from './sysctl.ts'
import { Tables } from './tables.ts'
import { allOf } from './undo-nft.ts'
import { hereDocument } from './words.ts'

/**
 * Commands that make a named namespace anew with what is in it. Processes and what they hold do not come back. A pair comes
 * back with its first end: `restored` are the other ends, which may be in a namespace that goes later.
 */
export function recreateNetns(place: Place, places: Places, restored: Set<string>): string[] {
  const [pid] = processesIn(place.name)
  if (pid !== undefined) return [`ip netns attach ${place.name} ${pid}`] // it lives on, with all that is in it
  using netlink = places.connect(place)
  if (!netlink) return []
  const names = namesIn(places, netlink)
  const peers = new Peers(places, netlink, place)
  const commands = inOrder(listLinks(netlink)).flatMap((link) => {
    if (restored.has(`${place.netns} ${link.index}`)) return []
    const there = { place, names, image: places.run(place, () => imageOf(netlink, link)) }
    if (link.name === 'lo') return restoreLoopback(there)
    const peer = peers.of(link)
    if (peer) restored.add(`${peer.place.netns} ${link.peerIndex}`)
    return recreate(there, peer)
  })
  return [`ip netns add ${place.name}`, ...commands, ...forwarding(place, places), ...ruleset(place, places)]
}

/** lo is always there; its own addresses come when it is raised for the first time, and stay. */
function restoreLoopback(there: LinkThere): string[] {
  const { place, image } = there
  const isOwn = ({ local, address }: LinkImage['addresses'][number]) =>
    ['127.0.0.1', '::1'].includes(local ?? address ?? '')
  const addresses = image.addresses.filter((address) => !isOwn(address))
  const wasUp = !isUp(image.link) && addresses.length < image.addresses.length
  const set = `${toolOf(place, 'ip')} link set lo`
  return [
    ...(wasUp ? [`${set} up`, `${set} down`] : []),
    ...configure({ ...there, image: { ...image, addresses, sysctls: [] } }),
  ]
}

const settings = [
  ['ipv4', 'ip_forward'],
  ['ipv6', 'conf', 'all', 'forwarding'],
] as const

const forwarding = (place: Place, places: Places): string[] =>
  settings
    .filter((name) => places.run(place, () => findSysctl(name)) === '1')
    .map((name) => sysctlCommand(place, name, '1'))

function ruleset(place: Place, places: Places): string[] {
  using netlink = places.run(place, () => new NetlinkSocket(protocols.netfilter))
  try {
    const lines = allOf(new Tables(netlink))
    return lines.length === 0 ? [] : [hereDocument(inside(place, 'nft -f -'), lines)]
  } catch (error) {
    if (!(error instanceof NoWords)) throw error
    return [`# the rules inside ${place.name} do not come back: there are no words for ${error.message}`]
  }
}
