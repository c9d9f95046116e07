#!/bin/bash -p
# Installs, upgrades and removes edgeasd on Debian 12 and Ubuntu 22.04 and later.

set -euo pipefail

# Who became root by su has the search path, the home and the settings of another user: none counts.
for name in $(compgen -e); do
  case $name in
  PYTHON | PIP_* | *_proxy | *_PROXY | SSL_CERT_* | REQUESTS_CA_BUNDLE | LANG | LC_*) ;;
  *) unset "$name" ;;
  esac
done
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=~root
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The user of the service must be able to read what root installs, whatever root's own umask is.
umask 022

readonly prefix=/opt/edgeasd
readonly current=$prefix/current
readonly config=/etc/edgeasd
readonly unit=/etc/systemd/system/edgeasd.service
readonly command=/usr/local/bin/edgeasd
checkout=$(cd -- "$(dirname -- "$0")/.." && pwd -P)
python=${PYTHON:-python3}
unfinished=

usage() {
  cat <<'EOF'
usage: install.sh [WHEEL]    install or upgrade, from this checkout or from WHEEL
       install.sh --uninstall  remove the service and the program; keep configuration and data
       install.sh --purge      remove configuration and data as well

What edgeasd needs is installed as deploy/constraints.txt has it, and only if its hashes are right.

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

has_venv() { "$python" -I -c 'import ensurepip, venv' 2>/dev/null; }

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
  "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    die "$("$python" --version) is too old; set PYTHON to an interpreter of version 3.10 or later"
  has_venv || die "$python has no venv module; install the one that belongs to it"
}

# Each release is an environment at its final path, as environments cannot be moved; nothing that
# runs sees it before `activate`.  Isolated (-I): neither the folder that this is started in nor a
# home adds anything to what is imported.
build() { # SOURCE RELEASE
  local source=$1 release=$2 python_of_release="$2/bin/python"
  unfinished=$release
  "$python" -I -m venv "$release"
  # Also what builds the wheel and what draws: thresholds and alarms are looked at on this computer.
  # Wheels only: to build another package is to run what no hash vouches for.
  "$python_of_release" -I -m pip install --quiet --only-binary=:all: --require-hashes \
    --requirement "$checkout/deploy/constraints.txt"
  "$python_of_release" -I -m pip wheel --quiet --no-deps --no-build-isolation \
    --wheel-dir "$release/wheel" "$source"
  "$python_of_release" -I -m pip install --quiet --no-deps --no-index "$release"/wheel/*.whl
  # Told by pip on standard output.
  "$python_of_release" -I -m pip check >&2 || die "$source needs other packages than those above"
  "$python_of_release" -I -c 'import edgeasd.service.daemon, sounddevice'
  install -m 644 "$checkout/systemd/edgeasd.service" "$release/edgeasd.service"
  {
    sha256sum <"$release"/wheel/*.whl
    sha256sum <"$release/edgeasd.service"
    "$python_of_release" -I -m pip list --format=freeze
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
  local password=$config/mqtt_password
  install -d -m 755 "$config" "$config/models"
  if [[ ! -e $config/edgeasd.toml && ! -L $config/edgeasd.toml ]]; then
    install -m 644 "$checkout/deploy/edgeasd.example.toml" "$config/edgeasd.toml"
  fi
  # The manager hands it to the service; nobody else may read it.  Whoever else owns the folder could
  # put a link to another file there.
  if [[ -O $config && -f $password && ! -L $password ]]; then
    chown root:root "$password"
    chmod 600 "$password"
  fi
}

# What is found there is run, and believed to be what was installed.
require_ours() { # FOLDER
  [[ -O $1 && -z $(find -H "$1" -maxdepth 0 -perm /022) ]] ||
    die "$1 must belong to root alone; see what is in it, remove it, and run this again"
}

install_edgeasd() { # SOURCE
  local old release
  install_packages
  mkdir -p "$prefix/releases"
  require_ours "$prefix"
  require_ours "$prefix/releases"
  # Nobody else can open it, and so hold it locked.
  (umask 077 && : >>"$prefix/lock")
  exec 9>>"$prefix/lock"
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
  source=$(realpath -- "$source")
  if [[ $python == */* ]]; then python=$(realpath --no-symlinks -- "$python"); fi
  if [[ -d ${PIP_FIND_LINKS-} ]]; then PIP_FIND_LINKS=$(realpath -- "$PIP_FIND_LINKS"); fi
  # Nothing is looked for in the folder that this was started in.
  cd /
  install_edgeasd "$source"
  ;;
esac
