/** The one real file in dist/bin: an image that acts by the name it's started under. */
export const image = 'ns-net'

/** Names that stand for a plugin; each is a symlink to the image. */
export const pluginNames = [
  'bridge',
  'veth',
  'ptp',
  'loopback',
  'nat',
  'portmap',
  'host-local',
  'static',
  'tuning',
  'firewall',
  'bandwidth',
  'chaos',
]

/** Everything that dist/bin holds. */
export const executableNames = [image, ...pluginNames]
