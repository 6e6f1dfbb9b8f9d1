#!/bin/sh
# Fetches wrk, the load generator of the benchmarks, into .venv/wrk unless it is on PATH.
set -eu
case "${1:-}" in
  -h|--help) echo "usage: benchmarks/tools/get_wrk.sh [FOLDER]   (prints the path of wrk; without FOLDER it fetches into .venv/wrk, unless wrk is on PATH)"; exit 0 ;;
esac
[ $# -gt 0 ] || ! command -v wrk || exit 0
folder=${1:-$(dirname "$0")/../../.venv/wrk}
if [ ! -x "$folder/wrk" ]; then
  "$(dirname "$0")/../../scripts/fetch_package.sh" "$folder" wrk libluajit-5.1-2
  # shellcheck disable=SC2016  # $0 belongs to the script that is written
  printf '#!/bin/sh\nroot=$(cd "$(dirname "$0")" && pwd)\nLD_LIBRARY_PATH="$root/lib" exec "$root/usr/bin/wrk" "$@"\n' > "$folder/wrk.new"
  mkdir -p "$folder/lib"
  find "$folder/usr/lib" -name 'libluajit*' -exec cp -a {} "$folder/lib/" ';'
  chmod +x "$folder/wrk.new"
  mv "$folder/wrk.new" "$folder/wrk"
fi
echo "$folder/wrk"
