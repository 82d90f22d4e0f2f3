#!/bin/sh
# What runs in the virtual machine of debian-kernel.mjs: first, as /init of the initramfs, it takes the machine outside as
# its own, then, once the root is that, it makes what a booted Debian has and runs the command.
#
# /settings of the initramfs says: modules (loaded in this order), release, kernel (folder of the unpacked package), job
# (a folder shared with the outside), directory and scripts. The command is the script `command` in the job.

shared='trans=virtio,version=9p2000.L,msize=512000'

initramfs() {
  mount -t proc proc /proc
  mount -t sysfs sysfs /sys
  mount -t devtmpfs devtmpfs /dev
  . /settings
  for module in $modules; do insmod "/modules/$module" || echo "cannot load $module"; done

  # The machine's files as they are; changes stay in memory. loose: nobody in here sees what changes outside meanwhile.
  mount -t 9p -o "$shared,ro,cache=loose" machine /lower || echo 'cannot mount the files of the machine'
  mount -t tmpfs -o size=75% tmpfs /changes
  mkdir /changes/upper /changes/work
  mount -t overlay -o lowerdir=/lower,upperdir=/changes/upper,workdir=/changes/work overlay /root
  for place in proc sys dev; do mount --move "/$place" "/root/$place"; done

  export release kernel job directory
  exec switch_root /root /bin/sh "$scripts/debian-kernel.sh" booted
}

# The device of a port to the outside, which has its name in sysfs only.
port() {
  name=$(grep -lx "$1" /sys/class/virtio-ports/*/name)
  echo "/dev/$(basename "${name%/name}")"
}

# A folder in memory that starts empty, unless what we work in lies below.
in_memory() {
  case "$directory/ $job/ $kernel/" in
  "$1/"* | *" $1/"*) ;;
  *) mount -t tmpfs -o "mode=$2" tmpfs "$1" ;;
  esac
}

booted() {
  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
  mkdir -p /dev/pts /dev/shm "/lib/modules/$release" "$job"
  mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
  mount -t tmpfs -o mode=1777 tmpfs /dev/shm
  for stream in stdin:0 stdout:1 stderr:2; do ln -sf "/proc/self/fd/${stream#*:}" "/dev/${stream%:*}"; done
  ln -sfn /proc/self/fd /dev/fd
  in_memory /run 755
  in_memory /tmp 1777
  mkdir -p /run/lock "$job"
  mount -t 9p -o "$shared,cache=none" job "$job" || echo 'cannot mount the folder for the result'

  mount --bind "$kernel/lib/modules/$release" "/lib/modules/$release" # in here modprobe works, also the kernel's own
  modprobe tun && chmod 666 /dev/net/tun
  mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
  cat /etc/hostname >/proc/sys/kernel/hostname
  ip link set lo up
  ulimit -Hn 524288

  # The ports may be opened once only, and a command may open /dev/stderr as often as it likes.
  mkfifo /dev/command-stdout /dev/command-stderr
  cat </dev/command-stdout >"$(port stdout)" &
  readers=$!
  cat </dev/command-stderr >"$(port stderr)" &
  readers="$readers $!"
  (cd "$directory" && exec sh "$job/command") </dev/null >/dev/command-stdout 2>/dev/command-stderr
  status=$?

  # Who is left holds the pipes open.
  for process in /proc/[0-9]*; do
    case " 1 $readers " in *" ${process#/proc/} "*) ;; *) kill -9 "${process#/proc/}" 2>/dev/null ;; esac
  done
  wait $readers
  echo "$status" >"$job/status"
  echo o >/proc/sysrq-trigger
  sleep 60
}

if [ "$1" = booted ]; then booted; else initramfs; fi
