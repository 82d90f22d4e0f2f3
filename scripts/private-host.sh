#!/bin/sh
# Turns the new network and mount namespaces that it's started in into a throw-away host, then becomes the command:
#
#   unshare --net --mount -- sh scripts/private-host.sh COMMAND...
#
# Everything a networking tool writes to lies in memory and ends with the last process inside: /run, /var/lib/cni,
# and /etc, which shows the machine's files and takes changes.
set -e

# An ordinary user's PATH lacks the places where Debian keeps nft and iptables.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

refused() {
  echo "private host: $1" >&2
  exit 5
}

mount --make-rprivate / || refused 'the mounts of this mount namespace cannot be made private'

# Read before the mounts below: these are often symlinks into /run, or bind mounts that an overlay of /etc doesn't show.
resolv_conf=$(cat /etc/resolv.conf 2>/dev/null || true)
hosts=$(cat /etc/hosts 2>/dev/null || true)

# The upper layers lie in a tmpfs that the second one hides, so that /run starts empty.
mount -t tmpfs -o mode=755 tmpfs /run || refused 'no tmpfs on /run'

# Shows a directory as it is and keeps changes in memory. Refused before Linux 5.11 in a user namespace, and on top of
# two other overlays.
overlay() {
  mkdir -p "/run/layers$1/upper" "/run/layers$1/work"
  mount -t overlay -o "lowerdir=$1,upperdir=/run/layers$1/upper,workdir=/run/layers$1/work" overlay "$1" 2>/dev/null
}

if ! overlay /etc; then
  cp -a /etc/. /run/layers/etc/upper/ 2>/dev/null || true # what this user may not read, the tests don't need
  mount --bind /run/layers/etc/upper /etc || refused '/etc cannot be made writable'
fi
for file in resolv.conf hosts; do rm -f "/etc/$file"; done
[ -z "$resolv_conf" ] || printf '%s\n' "$resolv_conf" >/etc/resolv.conf
[ -z "$hosts" ] || printf '%s\n' "$hosts" >/etc/hosts
# The machine's own namespaces and networks are no business of this host. In a user namespace their directories belong
# to an owner without a number here and could not be written to or removed.
for directory in /etc/netns /etc/cni; do
  [ ! -d "$directory" ] || mount -t tmpfs -o mode=755 tmpfs "$directory"
  mkdir -p "$directory"
done

# Without the mount point: creating it would leave a directory on the machine.
if [ ! -d /var/lib/cni ]; then
  overlay /var/lib || mount -t tmpfs -o mode=755 tmpfs /var/lib
  mkdir -p /var/lib/cni
fi
mount -t tmpfs -o mode=755 tmpfs /var/lib/cni || refused 'no tmpfs on /var/lib/cni'

# /sys/class/net shows the network namespace that sysfs was mounted from. Refused in some containers: then it goes
# on showing the machine's links, which only matters to tools that read it.
mkdir /run/cgroup
mount --rbind /sys/fs/cgroup /run/cgroup 2>/dev/null && bound=yes || bound=no
if mount -t sysfs sysfs /sys 2>/dev/null && [ $bound = yes ]; then
  mount --rbind /run/cgroup /sys/fs/cgroup 2>/dev/null || true
fi

mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock

# IPv4 settings are inherited from the machine: start like one that forwards nothing.
for setting in ipv4/ip_forward ipv6/conf/all/forwarding; do
  { echo 0 >"/proc/sys/net/$setting"; } 2>/dev/null || true
done

if command -v ip >/dev/null; then ip link set lo up; fi

exec "$@"
