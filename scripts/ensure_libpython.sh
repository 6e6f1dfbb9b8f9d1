#!/bin/sh
# Fetches the libpython that Triton's Python stub needs if it is missing: Debian and Ubuntu do not install it with python3.
# The library of the distribution's own package goes into the virtual environment; nothing else on the machine changes.
set -eu
case "${1:-}" in
  ""|-h|--help) echo "usage: scripts/ensure_libpython.sh .venv/bin/python   (needs apt-get where libpython is missing)"; exit 0 ;;
esac
python=$1

# Prints the library's name, and exits with 1 if it is not where serve looks for it (serve/triton/runtime.py).
library=$("$python" - <<'PY'
import ctypes, pathlib, sys, sysconfig
name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
print(name)
for folder in (sysconfig.get_config_var("LIBDIR") or "", f"{sys.prefix}/lib"):
    if pathlib.Path(folder, name).exists():
        sys.exit(0)
try:
    ctypes.CDLL(name)
except OSError:
    sys.exit(1)
PY
) && exit 0

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
echo "$library is missing: fetching it" >&2
"$(dirname "$0")/fetch_package.sh" "$scratch" "${library%.so.1.0}"
target=$("$python" -c 'import sys; print(sys.prefix)')/lib
cp "$(find "$scratch" -name "$library")" "$target/$library"
echo "put $library into $target"
