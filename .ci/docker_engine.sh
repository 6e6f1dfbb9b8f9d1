#!/bin/bash
# Starts a Docker engine in a folder, for machines that have none; when the engine is stopped, everything of it is removed.
#
# While it runs it has its own network bridge, without firewall rules or forwarding: containers can be reached through published
# ports and reach nothing beyond this machine. If dockerd is missing, Debian's packages are installed and stay.
set -euo pipefail

usage() {
  cat <<'HELP'
usage: .ci/docker_engine.sh start|stop FOLDER

Needs root on Debian or Ubuntu; installs docker.io if dockerd is missing. If it cannot start, it prints the reason and
the exit code is 3.

  .ci/docker_engine.sh start /tmp/engine
  DOCKER_HOST=unix:///tmp/engine/docker.sock docker info
  .ci/docker_engine.sh stop /tmp/engine
HELP
}

case "${1:-}" in
  start|stop) ;;
  -h|--help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac
[ -n "${2:-}" ] || { usage >&2; exit 2; }
mkdir -p "$2"
folder=$(cd "$2" && pwd)
bridge=ncf-ci$$

cannot() { echo "no Docker engine can be started here: $*" >&2; exit 3; }

start() {
  [ "$(uname -s)" = Linux ] || cannot "this is $(uname -s), not Linux"
  [ "$(id -u)" = 0 ] || cannot "that needs root; or start an engine and run this again"
  if ! command -v dockerd > /dev/null; then
    command -v apt-get > /dev/null || cannot "dockerd is missing, and so is apt-get to install it"
    export DEBIAN_FRONTEND=noninteractive
    packages=(docker.io iproute2 iptables)
    apt-get update > "$folder/apt.log" 2>&1 || cannot "apt-get update failed: $(tail -1 "$folder/apt.log")"
    # Newer distributions have separate packages for the client and for building.
    for package in docker-cli docker-buildx; do
      if apt-cache show "$package" > /dev/null 2>&1; then packages+=("$package"); fi
    done
    # The distribution's own service is not to be started by this.
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then policy=''; else printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod +x "$policy"; fi
    installed=yes
    apt-get install -y --no-install-recommends "${packages[@]}" > "$folder/apt.log" 2>&1 || installed=no
    [ -z "$policy" ] || rm -f "$policy"
    [ "$installed" = yes ] || cannot "apt-get install docker.io failed: $(tail -1 "$folder/apt.log")"
  fi
  # The bridge gets a fixed MAC address. Otherwise it changes with the containers, which then lose the network for seconds.
  ip link add "$bridge" address 02:42:ac:1e:ff:01 type bridge 2> "$folder/ip.log" \
    || cannot "no network bridge can be made: $(cat "$folder/ip.log")"
  echo "$bridge" > "$folder/bridge"
  ip addr add "172.30.$(($$ % 256)).1/24" dev "$bridge"
  ip link set "$bridge" up
  driver=overlay2
  for attempt in 1 2; do
    setsid dockerd --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/docker.pid" \
      -H "unix://$folder/docker.sock" --bridge="$bridge" --iptables=false --ip6tables=false --ip-forward=false \
      --ip-masq=false --oom-score-adjust 0 --storage-driver "$driver" > "$folder/dockerd.log" 2>&1 < /dev/null &
    for _ in $(seq 300); do
      DOCKER_HOST=unix://$folder/docker.sock "$docker" info > /dev/null 2>&1 && return
      kill -0 $! 2> /dev/null || break
      sleep 0.1
    done
    if [ "$attempt" = 2 ] || kill -0 $! 2> /dev/null; then break; fi
    driver=vfs  # overlay2 does not work on every file system; vfs is slower and needs more space
  done
  reason=$(grep -aE 'level=(error|fatal)|failed' "$folder/dockerd.log" | tail -1) || true
  stop
  cannot "${reason:-it did not answer within 30 s}"
}

stop() {
  if [ -s "$folder/docker.pid" ]; then
    kill -TERM "$(cat "$folder/docker.pid")" 2> /dev/null || true
    for _ in $(seq 300); do [ -e "$folder/docker.pid" ] || break; sleep 0.1; done
  fi
  awk -v inside="$folder/" 'index($2, inside) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do
    umount "$mount" || true
  done
  if [ -s "$folder/bridge" ]; then ip link del "$(cat "$folder/bridge")" 2> /dev/null || true; fi
  rm -rf --one-file-system "$folder"
}

# Debian's client is preferred, because it has BuildKit built in; others need a plug-in.
docker=$([ -x /usr/bin/docker ] && echo /usr/bin/docker || echo docker)
"$1"
