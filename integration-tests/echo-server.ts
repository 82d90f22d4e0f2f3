import type { Place } from './host.ts'

/** TCP servers on port 7000, IPv4 and IPv6, that tell each client the address they see it under. Needs socat. */
export function tellAddress(place: Place): void {
  for (const listen of ['TCP4-LISTEN:7000', 'TCP6-LISTEN:7000,ipv6only=1'])
    place.start(['socat', `${listen},fork,reuseaddr`, 'SYSTEM:echo $SOCAT_PEERADDR'])
  place.sh('for i in $(seq 100); do [ $(ss -Hltn | grep -c :7000) = 2 ] && exit; sleep 0.05; done; exit 1')
}

/** The address that the server at `address` sees this client under. */
export function sourceSeen(client: Place, address: string): string {
  const target = address.includes(':') ? `[${address}]` : address
  return client.run(['socat', '-T3', '-u', `TCP:${target}:7000,connect-timeout=3`, '-']).stdout.trim()
}
