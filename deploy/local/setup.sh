#!/bin/sh
# Installs the missing Debian packages of the local stack; with the argument `tests`, also those that only tests need.
# If nothing is missing, it changes nothing and needs no root. It starts no service: the stack starts PostgreSQL and
# RabbitMQ as its own child processes.
set -eu

policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.conf
made_policy=
made_cluster=

say() {
  printf '%s\n' "setup: $*"
}

first_match() {
  for found in "$@"; do
    if [ -e "$found" ]; then return 0; fi
  done
  return 1
}

# Looks for the programs themselves, so that an installation by other means counts too. RabbitMQ: Debian 12's layout,
# then that of Debian 13 and of RabbitMQ's own packages.
missing_packages() {
  first_match /usr/lib/postgresql/*/bin/postgres || command -v postgres >/dev/null 2>&1 || echo postgresql
  first_match /usr/lib/rabbitmq/bin/rabbitmq-server /usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server || echo rabbitmq-server
  # Debian 13 has it as libmagic1t64, which apt-get chooses by this name.
  first_match /usr/lib/*/libmagic.so.1 /usr/lib/libmagic.so.1 /usr/local/lib/libmagic.* /lib/*/libmagic.so.1 ||
    echo libmagic1
  command -v setpriv >/dev/null 2>&1 || echo util-linux
  "${PYTHON:-python3}" -c 'import venv, ensurepip' >/dev/null 2>&1 || echo python3-venv
  if [ "${1-}" = tests ]; then
    { command -v prometheus && command -v promtool; } >/dev/null 2>&1 || echo prometheus
    # The headless shell needs half the processor time.
    { command -v chromium-headless-shell || command -v chromium; } >/dev/null 2>&1 || echo chromium-headless-shell
    { command -v systemd-analyze && command -v systemd-sysusers; } >/dev/null 2>&1 || echo systemd
    command -v ps >/dev/null 2>&1 || echo procps
    command -v curl >/dev/null 2>&1 || echo curl
  fi
}

# Debian starts an installed service unless policy-rc.d exits with 101. An existing policy-rc.d is not changed.
forbid_services() {
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made_policy=yes
  fi
  # Only if PostgreSQL was never installed; an existing configuration is not changed.
  if [ ! -e "$cluster" ] && ! dpkg-query -W -f '${Status}' postgresql-common 2>/dev/null | grep -q ' installed$'; then
    mkdir -p "$(dirname "$cluster")"
    printf 'create_main_cluster = false\n' >"$cluster"
    made_cluster=yes
  fi
}

restore() {
  if [ -n "$made_policy" ]; then rm -f "$policy"; fi
  if [ -n "$made_cluster" ]; then
    # Needed during this installation only; without it, PostgreSQL's scripts use their defaults.
    rm -f "$cluster"
  fi
}

# Disable the installed services, so that they do not start at the next boot.
disable_services() {
  if [ -n "$made_policy" ] && command -v systemctl >/dev/null 2>&1; then
    for unit in $1; do
      case $unit in
        rabbitmq-server) systemctl disable rabbitmq-server >/dev/null 2>&1 || true ;;
        postgresql) systemctl disable postgresql >/dev/null 2>&1 || true ;;
        prometheus) systemctl disable prometheus >/dev/null 2>&1 || true ;;
      esac
    done
  fi
}

install_packages() {
  trap restore EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  forbid_services
  export DEBIAN_FRONTEND=noninteractive
  say 'updating the list of packages'
  apt-get update -q -o DPkg::Lock::Timeout=120
  say "installing:$1"
  # shellcheck disable=SC2086 # a list of packages
  apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confold $1
  disable_services "$1"
}

packages=$(missing_packages "$@" | tr '\n' ' ')
packages=${packages:+ ${packages% }}

if [ -z "$packages" ]; then
  exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
  say "these packages are missing (Debian's names):$packages"
  say 'apt-get was not found; install them in another way (PostgreSQL 13+ server, RabbitMQ 3.10+, libmagic, venv)'
  exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
  install_packages "$packages"
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
  exec sudo -n env PYTHON="${PYTHON:-python3}" sh "$0" "$@"
else
  say 'these packages are missing, and installing them needs root. Run this command, then repeat yours:'
  say "  sudo apt-get update && sudo apt-get install -y --no-install-recommends$packages"
  exit 1
fi
say 'done'
