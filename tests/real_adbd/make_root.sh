#!/bin/bash
# make_root.sh ROOT: a "phone" of 30 MB with the real adbd of Debian 13, toybox and dash, for user 2000; and qemu-user
# beside it, in ROOT.apt/qemu. Nothing is installed on this machine: a private apt state downloads, dpkg-deb unpacks.
# The mirror and the keyring are those of the machine's own apt; only the suite is another. MIRROR= overrides.
set -euo pipefail
root=$(realpath -m "${1:?usage: make_root.sh ROOT}")
suite=trixie
work=$root.apt
keyring=${KEYRING:-/usr/share/keyrings/debian-archive-keyring.gpg}
mirror=${MIRROR:-$(apt-get indextargets --format '$(SITE) $(ORIGIN) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
                   awk '$2 == "Debian" && $3 == "main" && $1 !~ /security/ {print $1; exit}')}
if [ -z "$mirror" ]; then  # lists not downloaded yet: read the source files
  mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
           sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' | grep -E '/debian/?$' | head -1)
fi
[ -n "$mirror" ] || { echo "no Debian mirror in the apt configuration; set MIRROR=" >&2; exit 1; }

mkdir -p "$work"/lists/partial "$work"/cache/archives/partial "$work/qemu" "$root"
echo "deb [signed-by=$keyring] $mirror $suite main" > "$work/sources.list"
: > "$work/status"
options=(-o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
         -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o "Dir::State::status=$work/status"
         -o APT::Sandbox::User=root)
apt-get -qq "${options[@]}" update
apt-get -qq "${options[@]}" install --no-install-recommends --download-only -y \
  adbd base-files dash toybox libc-bin > /dev/null
for package in "$work"/cache/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$package" |
    tar x -C "$root" --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale
done
(cd "$work/cache" && apt-get -qq "${options[@]}" download qemu-user && dpkg-deb -x qemu-user_*.deb "$work/qemu") ||
  echo "no qemu-user: programs of phones will not run" >&2

rm -rf "$root"/{boot,home,media,srv,usr/share/{common-licenses,zoneinfo,bash-completion,lintian}}
mkdir -p "$root"/{proc,sys,dev,tmp,system/bin,vendor,data/local/tmp,etc}
[ -e "$root/bin/sh" ] || ln -s dash "$root/bin/sh"
printf 'root:x:0:0:root:/:/bin/sh\nshell:x:2000:2000:shell:/:/bin/sh\n' > "$root/etc/passwd"
printf 'root:x:0:\nshell:x:2000:\n' > "$root/etc/group"
for tool in taskset nproc sha256sum stat ls cat rm mkdir rmdir chmod id date sleep df mv cp head tail grep sed \
            find ps kill true false printf nice env which wc cut sort touch setsid timeout pgrep seq; do
  ln -sf /usr/bin/toybox "$root/system/bin/$tool"
done
chown -R 2000:2000 "$root/data/local/tmp"
touch "$root/complete"
