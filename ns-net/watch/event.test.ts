import { expect, test } from 'vitest'
import { lineOf } from './event.ts'

const event = { time: '2026-11-22T14:02:11.123Z', place: 'web', kind: 'link', action: 'added', what: 'eth0' } as const

test('an event as a line', () => {
  expect(lineOf({ ...event, remark: 'veth, down' }).slice(9)).toBe(
    '123  web           link       eth0 added: veth, down\n',
  )
  expect(lineOf({ ...event, kind: 'place', action: 'appeared', what: '' })).toMatch(/ {2}web +place +appeared\n$/)
})

test('no name reaches the terminal as anything but letters', () => {
  expect(lineOf({ ...event, place: 'a\u001b[2J', what: 'b\nc', remark: 'alias \u0007' })).toMatch(
    /a\\u\{1b\}\[2J +link +b\\u\{a\}c added: alias \\u\{7\}\n$/,
  )
})
