#!/bin/sh
# Puts wrk, which loads servers in the benchmarks, into .venv/wrk where it is not on PATH.
set -eu
case "${1:-}" in
  -h|--help) echo "usage: scripts/get_wrk.sh [FOLDER]   (default .venv/wrk; prints the path of wrk)"; exit 0 ;;
esac
folder=${1:-.venv/wrk}
command -v wrk && exit 0
if [ ! -x "$folder/wrk" ]; then
  "$(dirname "$0")/fetch_package.sh" "$folder" wrk libluajit-5.1-2
  # shellcheck disable=SC2016  # $0 is for the script that is written
  printf '#!/bin/sh\nroot=$(cd "$(dirname "$0")" && pwd)\nLD_LIBRARY_PATH="$root/lib" exec "$root/usr/bin/wrk" "$@"\n' > "$folder/wrk.new"
  mkdir -p "$folder/lib"
  find "$folder/usr/lib" -name 'libluajit*' -exec cp -a {} "$folder/lib/" ';'
  chmod +x "$folder/wrk.new"
  mv "$folder/wrk.new" "$folder/wrk"
fi
echo "$folder/wrk"
