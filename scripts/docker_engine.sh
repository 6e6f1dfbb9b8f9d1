#!/bin/bash
# A Docker engine of one's own, for machines that have none: started in a folder, stopped without a trace.
#
# It changes nothing outside FOLDER but one network bridge, which goes when it stops: no firewall rules, no forwarding.
# So containers can be reached through published ports, and reach nothing beyond this machine.
set -euo pipefail

usage() {
  cat <<'HELP'
usage: scripts/docker_engine.sh start|stop FOLDER

Needs root on Debian or Ubuntu; installs docker.io where dockerd is missing. Where it cannot start, the reason is
printed and the exit code is 3.

  scripts/docker_engine.sh start /tmp/engine
  DOCKER_HOST=unix:///tmp/engine/docker.sock docker info
  scripts/docker_engine.sh stop /tmp/engine
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
bridge=ncf-ci0

cannot() { echo "no Docker engine can be started here: $*" >&2; exit 3; }

start() {
  [ "$(uname -s)" = Linux ] || cannot "this is $(uname -s), not Linux"
  [ "$(id -u)" = 0 ] || cannot "that needs root; or start an engine and run this again"
  if ! command -v dockerd > /dev/null; then
    command -v apt-get > /dev/null || cannot "dockerd is missing, and so is apt-get to install it"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update && apt-get install -y --no-install-recommends docker.io iproute2 iptables; } > "$folder/apt.log" 2>&1 \
      || cannot "apt-get install docker.io failed: $(tail -1 "$folder/apt.log")"
  fi
  # A bridge makes published ports possible; without the right to make one, containers use the host's network.
  network=none
  # Its address is set, because else it changes with the containers on it, and those that stay talk to nobody for seconds.
  if command -v ip > /dev/null && ip link add "$bridge" address 02:42:ac:1e:ff:01 type bridge 2> /dev/null; then
    ip addr add 172.30.255.1/24 dev "$bridge"
    ip link set "$bridge" up
    network=$bridge
  fi
  echo "$network" > "$folder/network"
  driver=overlay2
  for attempt in 1 2; do
    setsid dockerd --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/docker.pid" \
      -H "unix://$folder/docker.sock" --bridge="$network" --iptables=false --ip6tables=false --ip-forward=false \
      --ip-masq=false --oom-score-adjust 0 --storage-driver "$driver" > "$folder/dockerd.log" 2>&1 < /dev/null &
    for _ in $(seq 100); do
      DOCKER_HOST=unix://$folder/docker.sock "$docker" info > /dev/null 2>&1 && return
      kill -0 $! 2> /dev/null || break
      sleep 0.1
    done
    [ "$attempt" = 1 ] || break
    kill $! 2> /dev/null || true
    wait $! 2> /dev/null || true
    driver=vfs  # where the file system below cannot be overlaid: slower, and larger
  done
  reason=$(grep -aE 'level=(error|fatal)|failed' "$folder/dockerd.log" | tail -1)
  stop
  cannot "${reason:-it did not answer within 10 s}"
}

stop() {
  if [ -s "$folder/docker.pid" ]; then
    kill -TERM "$(cat "$folder/docker.pid")" 2> /dev/null || true
    for _ in $(seq 150); do [ -e "$folder/docker.pid" ] || break; sleep 0.1; done
  fi
  awk -v inside="$folder/" 'index($2, inside) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do
    umount "$mount" || true
  done
  [ "$(cat "$folder/network" 2> /dev/null)" != "$bridge" ] || ip link del "$bridge" 2> /dev/null || true
  rm -rf --one-file-system "$folder"
}

# Debian's client first: it builds with BuildKit by itself, where others want a plug-in.
docker=$([ -x /usr/bin/docker ] && echo /usr/bin/docker || echo docker)
"$1"
