import { expect, test } from 'vitest'
import { requireLinux } from './cli.ts'
import { CliError } from './errors.ts'

const refusalOn = (platform: string): unknown => {
  try {
    requireLinux(platform)
    return undefined
  } catch (error) {
    return error
  }
}

test('only Linux has what is needed; elsewhere the error says where to get it', () => {
  expect(refusalOn('linux')).toBeUndefined()
  for (const [platform, remedy] of [
    ['darwin', 'podman machine'],
    ['win32', 'wsl --install'],
  ] as const) {
    const error = refusalOn(platform)
    expect(error).toBeInstanceOf(CliError)
    expect(error).toMatchObject({ kind: 'unsupported', message: expect.stringContaining('Linux kernel') })
    expect((error as CliError).hint).toContain(remedy)
  }
})
