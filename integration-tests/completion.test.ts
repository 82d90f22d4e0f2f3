import { expect, test } from 'vitest'
import { createHost, executables, type Host } from './host.ts'

const nsNet = (host: Host, ...args: string[]) => host.run([`${executables}/ns-net`, ...args]).stdout

/** What bash offers for the last word of a line. */
function offered(host: Host, line: string): string[] {
  const words = line.split(' ')
  const script = `PATH=${executables}:$PATH; source <(ns-net completion bash)
    COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}
    _ns_net || true; printf '%s\\n' "\${COMPREPLY[@]}"`
  return host.run(['bash', '-ec', script]).stdout.split('\n').filter(Boolean)
}

test('bash completes verbs, options, and the names of labs and networks that are alive', () => {
  using host = createHost()
  nsNet(host, 'net', 'create', 'lan')
  nsNet(host, 'add', 'web', '--net', 'lan')
  nsNet(host, 'add', 'worker', '--no-net')
  expect(offered(host, 'ns-net at')).toEqual(['attach'])
  expect(offered(host, 'ns-net net c')).toEqual(['create'])
  expect(offered(host, 'ns-net del --k')).toEqual(['--kill'])
  expect(offered(host, 'ns-net del w')).toEqual(['web', 'worker'])
  expect(offered(host, 'ns-net del web w')).toEqual(['web', 'worker'])
  expect(offered(host, 'ns-net attach worker l')).toEqual(['lan'])
  expect(offered(host, 'ns-net net rm ')).toEqual(['lan'])
  expect(offered(host, 'ns-net show n')).toEqual([])
  expect(offered(host, 'ns-net exec web -- ls w')).toEqual([])
  nsNet(host, 'del', 'worker')
  expect(offered(host, 'ns-net del w')).toEqual(['web'])
})

test('bash completes the names of lab files that were applied: for down those alone, for export labs as well', () => {
  using host = createHost()
  const apply = (name: string, node: string) =>
    host.run([`${executables}/ns-net`, 'apply', '-f', '-'], {
      input: `lab: ${name}\nnodes:\n  ${node}:\n    nets: []\n`,
    })
  apply('clos1', 'leaf')
  apply('campus', 'core')
  nsNet(host, 'add', 'web', '--no-net')
  expect(offered(host, 'ns-net down ')).toEqual(['campus', 'clos1'])
  expect(offered(host, 'ns-net down cl')).toEqual(['clos1'])
  expect(offered(host, 'ns-net export c')).toEqual(['campus', 'clos1', 'core'])
  expect(offered(host, 'ns-net export w')).toEqual(['web'])
  nsNet(host, 'down', 'clos1')
  expect(offered(host, 'ns-net down ')).toEqual(['campus'])
})

test.for(['zsh', 'fish'])('%s completes them too', (shell, context) => {
  using host = createHost()
  const isThere = host.sh(`command -v ${shell} || :`).stdout !== ''
  if (!isThere) context.skip(`${shell} is not installed`)
  host.run([`${executables}/ns-net`, 'apply', '-f', '-'], { input: 'lab: clos1\nnodes:\n  leaf:\n    nets: []\n' })
  const scripts = {
    // compadd works only while a line is edited: in its place the array that it is given the name of.
    zsh: `compdef() { :; }; compadd() { print -l -- "\${(P)2}"; }; source <(ns-net completion zsh)
      words=(ns-net down ''); CURRENT=3; _ns_net`,
    fish: `ns-net completion fish | source; complete -C 'ns-net down '`,
  }
  const PATH = `${executables}:${process.env.PATH}`
  const { stdout } = host.run([shell, '-c', scripts[shell as keyof typeof scripts]], { env: { PATH } })
  expect(stdout.trim()).toBe('clos1')
})

test.each(['bash', 'zsh', 'fish'])('%s gets a script, and an unknown shell a hint', (shell) => {
  using host = createHost()
  expect(nsNet(host, 'completion', shell)).toContain('ns-net __complete')
  const refused = host.run([`${executables}/ns-net`, 'completion', 'csh'], { expectFailure: true })
  expect(refused).toMatchObject({
    status: 2,
    stderr: 'ns-net: no completion for "csh"\nhint: expected bash, zsh, fish\n',
  })
})

test('the help fits one screen of 80 columns, and every verb has an example', () => {
  using host = createHost()
  const help = nsNet(host, '--help').split('\n')
  expect(help.length).toBeLessThanOrEqual(30)
  for (const line of help) expect(line.length).toBeLessThanOrEqual(80)
  const verbs = [...nsNet(host, '--help').matchAll(/^ {2}(?:Labs|Networks|See|Diagnose|Files|Host) +(.*)$/gm)]
    .flatMap(([, names]) => names!.trim().split(/\s+/))
    .filter(Boolean)
  expect(verbs.length).toBeGreaterThan(15)
  for (const verb of verbs) expect(nsNet(host, verb, '--help')).toMatch(/\nExample:\n {2}\$ /)
})
