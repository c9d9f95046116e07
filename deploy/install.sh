#!/usr/bin/env bash
# Installs, upgrades and removes edgeasd on Debian 12 and Ubuntu 22.04 and later.

set -euo pipefail

# The user of the service must be able to read what root installs, whatever root's own umask is.
umask 022
PATH=$PATH:/usr/sbin:/sbin
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

readonly prefix=/opt/edgeasd
readonly current=$prefix/current
readonly config=/etc/edgeasd
readonly unit=/etc/systemd/system/edgeasd.service
readonly command=/usr/local/bin/edgeasd
checkout=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
unfinished=

usage() {
  cat <<'EOF'
usage: install.sh [WHEEL]    install or upgrade, from this checkout or from WHEEL
       install.sh --uninstall  remove the service and the program; keep configuration and data
       install.sh --purge      remove configuration and data as well

Environment: PYTHON is the interpreter, python3 by default; pip's own variables hold, for example
PIP_NO_INDEX and PIP_FIND_LINKS for a computer without internet.
EOF
}

say() { printf 'install.sh: %s\n' "$*"; }

die() {
  printf 'install.sh: %s\n' "$*" >&2
  exit 1
}

# systemd may be installed and not running: in a container, or where an image is made.
systemd_runs() { [[ -d /run/systemd/system ]]; }

has_venv() { "$python" -c 'import ensurepip, venv' 2>/dev/null; }

has_portaudio() { [[ $(ldconfig -p) == *libportaudio.so.2* ]]; }

install_packages() {
  local missing=()
  command -v "$python" >/dev/null || missing+=(python3)
  has_venv || missing+=(python3-venv)
  has_portaudio || missing+=(libportaudio2)
  if ((${#missing[@]})); then
    command -v apt-get >/dev/null || die "missing: ${missing[*]}; install them and run this again"
    say "installing ${missing[*]}"
    apt-get update -qq || say "the package lists are as old as before"
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends \
      "${missing[@]}" >/dev/null || die "apt-get cannot install ${missing[*]}; see above"
  fi
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    die "$("$python" --version) is too old; set PYTHON to an interpreter of version 3.10 or later"
  has_venv || die "$python has no venv module; install the one that belongs to it"
}

# Each release is an environment at its final path, as environments cannot be moved; nothing that
# runs sees it before `activate`.
build() { # SOURCE RELEASE
  local source=$1 release=$2
  unfinished=$release
  "$python" -m venv "$release"
  "$release/bin/pip" wheel --quiet --no-deps --wheel-dir "$release/wheel" "$source"
  # With what draws: thresholds and alarms are looked at on this computer.
  "$release/bin/pip" install --quiet "$(echo "$release"/wheel/*.whl)[plot]"
  "$release/bin/python" -c 'import edgeasd.daemon, sounddevice'
  install -m 644 "$checkout/systemd/edgeasd.service" "$release/edgeasd.service"
  {
    sha256sum <"$release"/wheel/*.whl
    sha256sum <"$release/edgeasd.service"
    "$release/bin/pip" list --format=freeze
  } >"$release/manifest"
  # A power cut after the switch must not find half a program.
  sync --file-system "$release"
  unfinished=
}

activate() { # RELEASE
  # A link is replaced in one step: there is no moment without a program.
  ln -sfn "$1" "$current.new"
  mv -T "$current.new" "$current"
  install -m 644 "$current/edgeasd.service" "$unit"
  if systemd_runs; then systemctl daemon-reload; fi
}

# Besides the last release this removes what a run that was killed has left.
prune() {
  local release
  for release in "$prefix"/releases/*; do
    [[ $release == "$(readlink "$current")" ]] || rm -rf "$release"
  done
}

restarts() {
  systemctl restart edgeasd || return 1
  # Ready is told before the first score: one that falls over it is no success.
  sleep 5
  systemctl is-active --quiet edgeasd
}

upgrade() { # OLD NEW
  local old=$1 new=$2
  if cmp -s "$old/manifest" "$new/manifest"; then
    say "nothing has changed"
    activate "$old"
    return
  fi
  activate "$new"
  if systemd_runs && systemctl is-active --quiet edgeasd && ! restarts; then
    activate "$old"
    systemctl restart edgeasd || true
    prune
    die "the new version does not run, the old one is back; see journalctl -u edgeasd"
  fi
}

configure() {
  install -d -m 755 "$config" "$config/models"
  if [[ ! -e $config/edgeasd.toml ]]; then
    install -m 644 "$checkout/deploy/edgeasd.example.toml" "$config/edgeasd.toml"
  fi
  # The manager hands it to the service; nobody else may read it.
  if [[ -e $config/mqtt_password ]]; then
    chown root:root "$config/mqtt_password"
    chmod 600 "$config/mqtt_password"
  fi
}

install_edgeasd() { # SOURCE
  local old release
  install_packages
  install -d -m 755 "$prefix" "$prefix/releases"
  exec 9<"$prefix"
  flock -n 9 || die "another install.sh is running"
  old=$(readlink "$current" || true)
  release=$prefix/releases/$(date -u +%Y%m%dT%H%M%S.%N)
  say "setting up $release"
  trap 'rm -rf "$unfinished"' EXIT
  build "$1" "$release"
  configure
  if [[ ! -e $command || -L $command ]]; then ln -sfn "$current/bin/edgeasd" "$command"; fi
  if [[ -n $old ]]; then
    upgrade "$old" "$release"
    prune
    say "$("$current/bin/edgeasd" --version) is installed"
    return
  fi
  activate "$release"
  prune
  if command -v systemctl >/dev/null; then systemctl --quiet enable edgeasd; fi
  welcome
}

welcome() {
  say "$("$current/bin/edgeasd" --version) is installed; now"
  cat <<EOF
  1. copy the model to $config/models
  2. say in $config/edgeasd.toml what to listen to and where alerts go
  3. if the broker wants a password:
     install -m 600 /dev/null $config/mqtt_password, and write it there
  4. edgeasd check
  5. systemctl start edgeasd
EOF
  systemd_runs || say "systemd does not run here: where it does, 'systemctl enable --now edgeasd'"
}

uninstall() {
  if [[ -e $unit ]] && command -v systemctl >/dev/null; then
    systemctl --quiet disable edgeasd
    if systemd_runs; then systemctl stop edgeasd; fi
  fi
  rm -f "$unit"
  if [[ -L $command && $(readlink "$command") == "$prefix"/* ]]; then rm "$command"; fi
  rm -rf "$prefix"
  if systemd_runs; then
    systemctl daemon-reload
    systemctl reset-failed edgeasd 2>/dev/null || true
  fi
}

purge() {
  uninstall
  # The state directory of a made-up user is a link into the private one.
  rm -rf "$config" "$unit.d" /var/lib/edgeasd /var/lib/private/edgeasd
  say "edgeasd, its configuration and its data are removed"
}

case ${1-} in
-h | --help)
  usage
  exit
  ;;
--uninstall | --purge) ;;
-*)
  usage >&2
  exit 2
  ;;
esac
(($# <= 1)) || die "one argument at most; see install.sh --help"
((EUID == 0)) || die "must be run as root, for example with sudo"

case ${1-} in
--uninstall)
  uninstall
  say "edgeasd is removed; kept: $config, /var/lib/edgeasd; --purge removes them too"
  ;;
--purge) purge ;;
*)
  source=${1:-$checkout}
  [[ -e $source ]] || die "$source does not exist"
  install_edgeasd "$source"
  ;;
esac
