import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Forward } from './forwards.ts'
import {
  deleteInstallation,
  findInstallation,
  type Installation,
  listAttachments,
  refuseClaimed,
  usersOfShared,
  writeInstallation,
} from './port-claims.ts'

let root: string
beforeEach(() => {
  root = mkdtempSync(`${tmpdir()}/ns-net-claims-`)
})
afterEach(() => rmSync(root, { recursive: true }))

const forward = (port: number, address?: string): Forward => ({
  family: address?.includes(':') ? 6 : 4,
  protocol: 'tcp',
  port,
  target: '10.7.0.2',
  targetPort: 80,
  ...(address && { address }),
})
const installation = (...forwards: Forward[]): Installation => ({
  forwards,
  families: [{ family: 4, chain: 'NS-NET-P-1', entries: [], rules: [], shared: ['NS-NET-PORTS', 'masquerade-13'] }],
})

test('what was written is found again; afterwards nothing is left', () => {
  const made = installation(forward(8080), forward(8081, '2001:db8::1'))
  writeInstallation(root, 'lab c1 eth0', made)
  expect(findInstallation(root, 'lab c1 eth0')).toEqual(made)
  expect(findInstallation(root, 'lab c2 eth0')).toBeUndefined()
  expect(listAttachments(root)).toEqual(['lab c1 eth0'])
  expect(usersOfShared(root, 'NS-NET-PORTS', 4).isOnly('lab c1 eth0')).toBe(true)
  writeInstallation(root, 'lab c2 eth0', installation(forward(8082)))
  expect(usersOfShared(root, 'NS-NET-PORTS', 4).isOnly('lab c1 eth0')).toBe(false)
  for (const mark of ['lab c1 eth0', 'lab c2 eth0']) deleteInstallation(root, mark, findInstallation(root, mark)!)
  expect(existsSync(`${root}/ports`)).toBe(false)
  expect(listAttachments(root)).toEqual([])
})

test('a claimed port is refused by name, unless the addresses are different ones', () => {
  const all = { ...forward(8080), address: undefined }
  writeInstallation(root, 'lab c1 eth0', installation(all, forward(8081, '127.0.0.1'), forward(8082, '2001:db8::1')))
  const refused = (one: Forward) => () => refuseClaimed(root, [forward(1), one], 'lab c2 eth0')
  expect(refused(forward(8080))).toThrow('forward host port tcp *:8080 to "lab c2 eth0": the port belongs to "lab c1')
  expect(refused(forward(8080, '192.0.2.1'))).toThrow('tcp *:8080')
  expect(refused(forward(8081))).toThrow('tcp 127.0.0.1:8081')
  expect(refused(forward(8082, '2001:db8::1'))).toThrow('tcp [2001:db8::1]:8082')
  for (const free of [forward(8081, '192.0.2.1'), forward(8082), { ...forward(8080), protocol: 'udp' as const }])
    expect(refused(free)).not.toThrow()
  expect(() => refuseClaimed(root, [all], 'lab c1 eth0')).not.toThrow()
})
