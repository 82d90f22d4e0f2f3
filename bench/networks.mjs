// What is called: the two sets of executables, and the networks that they make.

import { join } from 'node:path'
import { root } from '../scripts/install.mjs'

export const ours = { name: 'ours', directory: join(root, 'dist/bin') }
export const reference = { name: 'reference', directory: '/usr/lib/cni' }

const head = { cniVersion: '1.0.0', name: 'bench' }
const ipam = { type: 'host-local', ranges: [[{ subnet: '10.99.0.0/16' }]] }

export const loopback = { ...head, type: 'loopback' }
export const ptp = { ...head, type: 'ptp', ipam }
export const bridge = { ...head, type: 'bridge', bridge: 'bench0', isDefaultGateway: true, ipam }
export const hostLocal = { ...head, type: 'host-local', ipam }

/** Two mappings for the n-th container. */
export const portmap = (n) => ({
  ...head,
  type: 'portmap',
  runtimeConfig: {
    portMappings: [
      { hostPort: 20_000 + n, containerPort: 80, protocol: 'tcp' },
      { hostPort: 20_000 + n, containerPort: 53, protocol: 'udp' },
    ],
  },
})

export const attachment = (containerId, ifName = 'eth0', namespace = containerId) => ({
  containerId,
  netns: `/run/netns/${namespace}`,
  ifName,
})
