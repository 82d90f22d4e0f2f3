import { expect, test } from 'vitest'
import { stepLines, undoCommands, undoLines } from './print.ts'
import { hereDocument, word } from './words.ts'

const step = (command: string, why: string, ...undo: string[]) => ({ command, why, undo, place: 'host' })

test('reasons are aligned; beside a long command if there is room, else below it, never inside a document', () => {
  const long = `ip link set veth1234 alias ${'x'.repeat(40)}`
  const lines = stepLines([
    step('ip netns add web', 'a stack'),
    step('ip link set br0 up', 'up'),
    step('ip -n web addr add 10.88.0.2/16 brd 10.88.255.255 dev eth0', 'the address'),
    step(long, 'our mark, to find it again'),
    step(hereDocument('nft -f -', ['add table inet x']), 'rules'),
  ])
  expect(lines).toEqual([
    'ip netns add web      # a stack',
    'ip link set br0 up    # up',
    'ip -n web addr add 10.88.0.2/16 brd 10.88.255.255 dev eth0  # the address',
    long,
    '                      # our mark, to find it again',
    "nft -f - <<'END'      # rules",
    'add table inet x',
    'END',
  ])
})

test('the undo is newest first, deletes files together, and is a document that nobody reads', () => {
  const files = Array.from({ length: 4 }, (_, i) => `/run/ns-net/some/file of some length ${i}`)
  const steps = [
    step('ip netns add web', '', 'ip netns del web'),
    step('sysctl -qw x=1', ''),
    ...files.map((file) => step('# file', '', `rm -f ${word(file)}`)),
  ]
  const [joined = '', ...others] = undoCommands(steps)
  expect(others).toEqual(['ip netns del web'])
  expect(joined.replaceAll(' \\\n ', '')).toBe(`rm -f ${files.toReversed().map(word).join(' ')}`)
  expect(Math.max(...joined.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80)
  const [first, ...rest] = undoLines(steps)
  expect(first).toMatch(/^: <<'UNDO' /)
  expect(rest.at(-1)).toBe('UNDO')
  expect(undoLines([step('sysctl -qw x=1', '')])).toEqual([])
})

test('words for a shell', () => {
  expect(word('/run/netns/web')).toBe('/run/netns/web')
  expect(word("it's $HOME")).toBe("'it'\\''s $HOME'")
  expect(hereDocument('cat', ['END'])).toBe("cat <<'END_'\nEND\nEND_")
})
