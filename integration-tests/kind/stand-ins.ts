import type { Host } from '../host.ts'

/** Programs that stand in for kind, kubectl and docker or podman: they write down how they are called. */
export interface StandIns {
  /** For the command that is to find them. */
  readonly env: { readonly PATH: string }
  /** What each does with its arguments, in sh. Given anew it counts from then on. */
  set(program: string, script: string): void
  /** A line for each call, with the variables of kind's that were set. */
  calls(): string[]
  /** What the last call that was given a file on stdin (`-`) read there. */
  stdin(program: string): string
}

const folder = '/run/stand-ins'

/** `programs` are all that there are: the machine's own docker, podman, kind and kubectl are not found. */
export function createStandIns(host: Host, programs: readonly string[]): StandIns {
  host.sh(`mkdir -p ${folder}/bin
           for name in sh cat tee sleep env hostname unshare; do ln -s "$(command -v $name)" ${folder}/bin/$name; done
           touch ${folder}/calls
           # ns-net looks in the usual places as well.
           for name in kind kubectl docker podman; do
             for place in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do
               [ ! -x $place/$name ] || mount --bind /dev/null $place/$name
             done
           done`)
  const set = (program: string, script: string) => {
    const text = `#!/bin/sh
echo "\${KIND_EXPERIMENTAL_PROVIDER:+KIND_EXPERIMENTAL_PROVIDER=$KIND_EXPERIMENTAL_PROVIDER }${program} $*" >>${folder}/calls
case " $* " in *' - '*) cat >${folder}/stdin.${program} ;; esac
${script}
`
    host.run(['tee', `${folder}/bin/${program}`], { input: text })
    host.run(['chmod', '755', `${folder}/bin/${program}`])
  }
  for (const program of programs) set(program, '')
  const read = (name: string) => host.run(['cat', `${folder}/${name}`]).stdout
  return {
    env: { PATH: `${folder}/bin` },
    set,
    calls: () => read('calls').split('\n').filter(Boolean),
    stdin: (program) => read(`stdin.${program}`),
  }
}
