/** The command, compiled with bun. */
export const image = 'ns-net'

/** All plugins in one executable, which acts by the name it's started under. */
export const pluginImage = 'ns-net-plugins'

/** Names that stand for a plugin, each a symlink to {@link pluginImage}, and the folder of its source below plugins/. */
export const pluginFolders = {
  bridge: 'bridge',
  veth: 'veth',
  ptp: 'veth',
  loopback: 'loopback',
  nat: 'nat',
  portmap: 'portmap',
  'host-local': 'host-local',
  static: 'static',
  tuning: 'tuning',
  firewall: 'firewall',
  bandwidth: 'bandwidth',
  chaos: 'chaos',
}

export const pluginNames = Object.keys(pluginFolders)

/** Everything that dist/bin holds. */
export const executableNames = [image, pluginImage, ...pluginNames]
