#!/bin/sh
# Unpacks packages of this machine's Debian or Ubuntu into a folder, without root and without changing anything else.
set -eu
case "${1:-}" in
  ""|-h|--help) echo "usage: benchmarks/tools/fetch_package.sh FOLDER PACKAGE...   e.g. benchmarks/tools/fetch_package.sh .venv/wrk wrk libluajit-5.1-2"; exit 0 ;;
esac
folder=$1
shift
command -v apt-get >/dev/null || { echo "cannot fetch $*: there is no apt-get here; install it by this system's own means" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial"
for package in "$@"; do
  fetch() { (cd "$scratch" && apt-get "$@" download "$package" >/dev/null 2>&1); }
  # No package lists, or old ones: fetch lists of our own, which needs no root and leaves the machine's as they are.
  own="-o Dir::State::lists=$scratch/lists -o Dir::Cache=$scratch/cache -o Debug::NoLocking=1"
  # shellcheck disable=SC2086  # several words on purpose; mktemp makes no spaces
  fetch || { apt-get $own update >/dev/null 2>&1 && fetch $own; } ||
    { echo "$package could not be fetched; as root, run: apt-get update && apt-get install $*" >&2; exit 1; }
done
for archive in "$scratch"/*.deb; do
  dpkg -x "$archive" "$folder"
done
