import fs from 'node:fs'
import { messageOf } from '../../plugins/contract/errors.ts'
import { CliError } from '../errors.ts'

/** The systemd unit that keeps labs over a reboot. */

export const unitName = 'ns-net.service'
const unitFile = `/etc/systemd/system/${unitName}`

export const unitText = (program: string): string => `[Unit]
Description=Labs of ns-net
After=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=${program} restore
ExecStop=${program} save

[Install]
WantedBy=multi-user.target
`

/** Writes the unit; systemd is told by the administrator. Returns the file's path. */
export function installUnit(program: string): string {
  try {
    fs.mkdirSync(unitFile.slice(0, unitFile.lastIndexOf('/')), { recursive: true })
    fs.writeFileSync(unitFile, unitText(program), { mode: 0o644 })
    return unitFile
  } catch (error) {
    throw new CliError('failed', `cannot write ${unitFile}: ${messageOf(error)}`)
  }
}
