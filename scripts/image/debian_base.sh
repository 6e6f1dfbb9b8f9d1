#!/bin/bash
# Makes a base for the cpu image if no registry can be reached: Debian bookworm by debootstrap, as the tar file TARGET.
# It uses the mirror of this machine's apt, and nothing else of this machine.
set -euo pipefail
target=$1
root=$(mktemp -d /tmp/debian-base.XXXXXX)
trap 'rm -rf --one-file-system "$root"' EXIT

if ! command -v debootstrap > /dev/null; then
  [ "$(id -u)" = 0 ] || { echo "debian_base.sh: debootstrap is missing, and needs root as well" >&2; exit 1; }
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends debootstrap; } \
    > "$root/apt.log" 2>&1 || { cat "$root/apt.log"; exit 1; }
  rm "$root/apt.log"
fi
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2> /dev/null | grep -E '^(URIs:|deb )' \
  | grep -oE 'https?://[^ ]+/debian/?( |$)' | tr -d ' ' | head -1 || true)
debootstrap --variant=minbase bookworm "$root" ${mirror:+"$mirror"} > "$target.log" 2>&1 || { tail -20 "$target.log"; exit 1; }
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/var/log/*.log "$target.log"
: > "$root/etc/resolv.conf"
: > "$root/etc/hostname"
if [ -n "$mirror" ]; then
  printf 'deb %s bookworm main\ndeb %s bookworm-updates main\ndeb %s bookworm-security main\n' \
    "$mirror" "$mirror" "${mirror%/debian*}/debian-security" > "$root/etc/apt/sources.list"
fi
tar -C "$root" --numeric-owner --sort=name -cf "$target.part" .
mv "$target.part" "$target"
