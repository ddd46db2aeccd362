#!/bin/sh
# Runs `make demo` and the smoke test of tests/pythons in a Debian chroot made by debootstrap.
# Needs root and debootstrap. The chroot is kept, so that a second run is quick.
#
#   DEBIAN_SUITE   the release, `trixie` (Debian 13) by default
#   DEBIAN_ROOT    where the root is, `.outlast/SUITE` by default
#   DEBIAN_MIRROR  where packages come from; by default this machine's own first mirror
#
# This machine's network configuration (mirror, apt's and pip's settings, certificates) is copied at run time.
set -eu

suite=${DEBIAN_SUITE:-trixie}
checkout=$(cd "$(dirname "$0")/../.." && pwd)
root=${DEBIAN_ROOT:-$checkout/.outlast/$suite}

say() {
  printf '%s\n' "debian: $*"
}

fail() {
  say "$*" >&2
  exit 2
}

# The first mirror in apt's sources, in either of their two formats.
mirror_here() {
  cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
    sed -n -e 's/^URIs: *\([^ ]*\).*/\1/p' -e 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) .*/\2/p' | head -n 1
}

make_root() {
  mirror=${DEBIAN_MIRROR:-$(mirror_here)}
  [ -n "$mirror" ] || fail 'apt here names no mirror: set DEBIAN_MIRROR'
  say "making a root of $suite in $root"
  rm -rf "$root.new"
  mkdir -p "$(dirname "$root")"
  debootstrap --variant=minbase --include=ca-certificates,make,python3,python3-venv "$suite" "$root.new" "$mirror" \
    >"$root.log" 2>&1 || fail "debootstrap failed, see $root.log"
  mv "$root.new" "$root"
}

# Copies what is needed to download packages: name service, proxies, certificates.
copy_network() {
  for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    if [ -e "$file" ]; then cp -L "$file" "$root$file"; fi
  done
  for file in /etc/apt/apt.conf /etc/apt/apt.conf.d/*; do
    if grep -qsE 'Acquire::(http|https|Check-)' "$file"; then cp "$file" "$root/etc/apt/apt.conf.d/"; fi
  done
}

# Copies all files that git tracks or would add, with uncommitted changes. The virtual environment of an earlier run is
# kept.
copy_checkout() {
  mkdir -p "$root/src/outlast"
  find "$root/src/outlast" -mindepth 1 -maxdepth 1 ! -name '.venv*' ! -name .outlast -exec rm -rf {} +
  (cd "$checkout" && git -c safe.directory="$checkout" ls-files -z --cached --others --exclude-standard) |
    tar -C "$checkout" --null --files-from=- --ignore-failed-read -cf - 2>/dev/null | tar -C "$root/src/outlast" -xf -
}

[ "$(id -u)" -eq 0 ] || fail 'this needs root: run it by sudo'
command -v debootstrap >/dev/null 2>&1 || fail 'debootstrap is missing: apt-get install debootstrap'
if [ ! -e "$root/etc/debian_version" ]; then make_root; fi
copy_network
copy_checkout

# shellcheck disable=SC2016 # for the shell inside
inside='
  set -eu
  cd /src/outlast
  export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
  unset PIP_FIND_LINKS PYENV_VERSION VIRTUAL_ENV MAKEFLAGS MAKELEVEL
  echo "Debian $(cat /etc/debian_version), $(python3 --version)"
  make --no-print-directory demo
  make --no-print-directory .venv/.testing
  .venv/bin/python -m tests.pythons.run --here
  # Tests that depend on libc, in a network namespace of their own.
  .venv/bin/python -m pytest -q tests/hostile/test_dns_rebinding.py tests/hostile/test_internal_urls.py
  dpkg-query --show --showformat "\${Package} \${Version}\n" rabbitmq-server postgresql libmagic-mgc libc6
'
# shellcheck disable=SC2016 # the same
enter='
  mount --bind "$1" "$1"  # a mount point of its own, so that tests can make namespaces in it
  mount -t proc proc "$1/proc"
  mount --rbind /dev "$1/dev"
  exec chroot "$1" sh -c "$2"
'
say "running the demo and the smoke in $root"
unshare --mount --pid --fork --kill-child --propagation private sh -euc "$enter" sh "$root" "$inside"
say 'done'
