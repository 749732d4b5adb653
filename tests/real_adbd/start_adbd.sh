#!/bin/bash
# start_adbd.sh ROOT PORT: start adbd in ROOT as user 2000; prints its pid. Only inside nsrun.py: Debian's adbd asks
# nobody for permission and listens on every interface. Keep ports outside 5555..5585: adb adopts those as emulators.
set -euo pipefail
root=$(realpath "${1:?usage: start_adbd.sh ROOT PORT}")
port=${2:?port}
routes=$(awk 'NR > 1 {print $1}' /proc/self/net/route; awk '$6 != "lo" {print $6}' /proc/self/net/if_inet6 2>/dev/null || true)
[ -z "$routes" ] || { echo "refused: not in a private network namespace (found $(echo $routes))" >&2; exit 1; }

mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
if ! mountpoint -q "$root/dev"; then
  mount -t tmpfs none "$root/dev"
  for node in null zero full random urandom tty; do
    touch "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
  done
  mkdir -p "$root"/dev/{pts,shm}
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
  ln -s pts/ptmx "$root/dev/ptmx"
  ln -s /proc/self/fd "$root/dev/fd"
fi
cd /
env -i PATH=/system/bin:/vendor/bin:/usr/bin:/bin HOME=/ TMPDIR=/data/local/tmp "ADBD_PORT=$port" \
  setsid /usr/sbin/chroot "--userspec=2000:2000" --groups=2000 "$root" /usr/sbin/adbd > "$root.log" 2>&1 < /dev/null &
echo $!
