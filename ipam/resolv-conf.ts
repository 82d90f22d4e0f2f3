import { readFile } from '../netlink-lib/files.ts'
import { ioError } from './errors.ts'
import type { Dns } from './result.ts'

/** The DNS settings of a resolv.conf(5) file. */
export function readResolvConf(path: string): Dns {
  let text: string
  try {
    text = readFile(path)
  } catch (error) {
    throw ioError('ipam.resolvConf', error)
  }
  return parseResolvConf(text)
}

/** Repeated lines add up, except `domain`: there the last one counts. Lines that mean nothing to us are skipped. */
export function parseResolvConf(text: string): Dns {
  const nameservers: string[] = []
  const search: string[] = []
  const options: string[] = []
  let domain: string | undefined
  for (const line of text.split('\n')) {
    const [keyword = '', ...values] = line.trim().split(/\s+/)
    if (values.length === 0) continue
    if (keyword === 'nameserver') nameservers.push(values[0]!)
    else if (keyword === 'domain') domain = values[0]
    else if (keyword === 'search') search.push(...values)
    else if (keyword === 'options') options.push(...values)
  }
  return {
    ...(nameservers.length > 0 && { nameservers }),
    ...(domain !== undefined && { domain }),
    ...(search.length > 0 && { search }),
    ...(options.length > 0 && { options }),
  }
}
