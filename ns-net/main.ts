/**
 * The one image behind every executable: what it is depends on the name it was started by. Only the part that is
 * needed is loaded.
 */
const name = process.argv0.slice(process.argv0.lastIndexOf('/') + 1)

switch (name) {
  case 'bridge':
    void import('../plugins/bridge/main.ts')
    break
  case 'veth':
  case 'ptp':
    void import('../plugins/veth/main.ts')
    break
  case 'loopback':
    void import('../plugins/loopback/main.ts')
    break
  case 'nat':
    void import('../plugins/nat/main.ts')
    break
  case 'tuning':
    void import('../plugins/tuning/main.ts')
    break
  case 'firewall':
    void import('../plugins/firewall/main.ts')
    break
  case 'bandwidth':
    void import('../plugins/bandwidth/main.ts')
    break
  case 'portmap':
    void import('../plugins/portmap/main.ts')
    break
  case 'host-local':
    void import('../plugins/host-local/main.ts')
    break
  case 'static':
    void import('../plugins/static/main.ts')
    break
  default:
    void import('./cli.ts').then(({ runCli }) => runCli(process.argv.slice(2)))
}

export {}
