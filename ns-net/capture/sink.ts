import fs from 'node:fs'
import os from 'node:os'
import { messageOf } from '../../plugins/contract/errors.ts'
import { CliError } from '../errors.ts'
import { writeWhole } from '../live.ts'
import {
  interfaceDescription,
  isCapture,
  type LinkType,
  packetBlock,
  sectionHeader,
  statisticsBlock,
} from '../pcapng.ts'
import { lineOf, tell } from './lines.ts'
import type { InterfaceCount, TappedPacket } from './taps.ts'

/** Where packets go. Every method returns false when nobody reads any more. */
export interface Sink extends Disposable {
  write(packets: readonly TappedPacket[]): boolean
  /** The last thing to be written. */
  end(counts: readonly InterfaceCount[]): boolean
}

type Interfaces = readonly { readonly name: string; readonly linkType: LinkType }[]

/** One line for each packet. */
export function lineSink(interfaces: Interfaces, json: boolean): Sink {
  const nameWidth = Math.max(...interfaces.map(({ name }) => name.length))
  const line = (packet: TappedPacket) => {
    const told = tell(packet, interfaces[packet.interface]!)
    return json ? `${JSON.stringify(told)}\n` : lineOf(told, packet.time, nameWidth)
  }
  return {
    write: (packets) => writeWhole(1, packets.map(line).join('')),
    end: () => true,
    [Symbol.dispose]() {},
  }
}

export interface FileSettings {
  /** `-` is stdout. */
  readonly file: string
  readonly force: boolean
  readonly application: string
  readonly snapLength: number
  readonly filter?: string
}

/** A pcapng file, whole after every call. */
export function fileSink(interfaces: Interfaces, settings: FileSettings): Sink {
  const { file, force, application, snapLength, filter } = settings
  const start = BigInt(Date.now()) * 1_000_000n
  const fd = file === '-' ? 1 : openFile(file, force)
  const header = [
    sectionHeader({ application, os: `${os.type()} ${os.release()}` }),
    ...interfaces.map(({ name, linkType }) => interfaceDescription({ name, linkType, snapLength, filter })),
  ]
  const write = (blocks: readonly Buffer[]) => writeWhole(fd, Buffer.concat(blocks))
  write(header)
  return {
    write: (packets) =>
      write(packets.map((packet) => packetBlock({ ...packet, data: packet.data.subarray(0, snapLength) }))),
    end(counts) {
      const end = BigInt(Date.now()) * 1_000_000n
      return write(
        counts.map(({ received, dropped }, number) =>
          statisticsBlock({ interface: number, start, end, received, dropped }),
        ),
      )
    },
    [Symbol.dispose]() {
      if (fd !== 1) fs.closeSync(fd)
    },
  }
}

/**
 * As with tcpdump, a capture replaces the one before. Anything else that has the name is not for us to overwrite. What
 * was opened is what is looked at and emptied, so nobody can put another file in its place between.
 */
function openFile(file: string, force: boolean): number {
  let fd: number
  try {
    fd = fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o644)
  } catch (error) {
    const kind = (error as { code?: string }).code === 'ENOENT' ? 'notFound' : 'failed'
    throw new CliError(kind, `cannot write ${file}: ${messageOf(error)}`)
  }
  const status = fs.fstatSync(fd)
  if (!status.isFile()) return fd // a fifo or a device
  const beginning = Buffer.alloc(4)
  const length = fs.readSync(fd, beginning, 0, 4, 0)
  if (status.size > 0 && !force && !isCapture(beginning.subarray(0, length))) {
    fs.closeSync(fd)
    throw new CliError(
      'conflict',
      `${file} exists and is no capture file`,
      'choose another name, or overwrite it with --force',
    )
  }
  fs.ftruncateSync(fd)
  return fd
}
