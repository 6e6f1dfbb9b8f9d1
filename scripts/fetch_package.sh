#!/bin/sh
# Unpacks packages of this Debian or Ubuntu into a folder; it needs no root, and changes nothing else on the machine.
set -eu
case "${1:-}" in
  ""|-h|--help) echo "usage: scripts/fetch_package.sh FOLDER PACKAGE...   e.g. scripts/fetch_package.sh .venv/wrk wrk libluajit-5.1-2"; exit 0 ;;
esac
folder=$1
shift
command -v apt-get >/dev/null || { echo "cannot fetch $*: this system has no apt-get; install it with this system's package manager" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial"
for package in "$@"; do
  fetch() { (cd "$scratch" && apt-get "$@" download "$package" >/dev/null 2>&1); }
  # If the package lists are missing or old, fetch lists into the scratch folder, which needs no root.
  own="-o Dir::State::lists=$scratch/lists -o Dir::Cache=$scratch/cache -o Debug::NoLocking=1"
  # shellcheck disable=SC2086  # split into words on purpose; paths of mktemp have no spaces
  fetch || { apt-get $own update >/dev/null 2>&1 && fetch $own; } ||
    { echo "$package could not be fetched; as root, run: apt-get update && apt-get install $*" >&2; exit 1; }
done
for archive in "$scratch"/*.deb; do
  dpkg -x "$archive" "$folder"
done
