#!/bin/sh
# Fetches NVIDIA's perf_analyzer, with which `make bench` measures Triton, and the two libraries it needs, into a folder.
# The program is in the wheel of tritonclient 2.51, the last one for glibc 2.35; the installed tritonclient is not changed.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
case "${1:-}" in
  -h|--help)
    echo "usage: benchmarks/tools/get_perf_analyzer.sh [FOLDER]   (default: .venv/perf_analyzer; writes FOLDER/bin and FOLDER/lib)"
    echo "example: benchmarks/tools/get_perf_analyzer.sh /opt/perf_analyzer"
    exit 0 ;;
  -*) echo "unknown option $1; see benchmarks/tools/get_perf_analyzer.sh --help" >&2; exit 2 ;;
esac
folder=${1:-$root/.venv/perf_analyzer}
python=$root/.venv/bin/python
program=$folder/bin/perf_analyzer
fail() { echo "get_perf_analyzer.sh: $*" >&2; exit 1; }
runs() { [ -x "$program" ] && LD_LIBRARY_PATH=$folder/lib "$program" --version >/dev/null 2>"$1"; }
# The folder has both libraries even if this system has them, because it may be carried to a system without them.
[ -e "$folder/lib/libb64.so.0d" ] && [ -e "$folder/lib/libcudart.so.12" ] && runs /dev/null && { echo "$program exists already"; exit 0; }

[ -x "$python" ] || fail "$python is missing; run: make .venv/ready"
[ "$(uname -sm)" = "Linux x86_64" ] || fail "perf_analyzer is built for Linux on x86-64, this is $(uname -sm); use a machine with Linux on x86-64"
glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)
[ "$(printf '2.35\n%s\n' "${glibc:-0}" | sort -V | head -1)" = 2.35 ] ||
  fail "perf_analyzer needs glibc 2.35, this system has ${glibc:-another C library}; use Debian 12 or Ubuntu 22.04, or later"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$folder/bin" "$folder/lib"

wheel() { # arguments: package, folder; downloads a wheel and unpacks it
  "$python" -m pip download -q --no-deps --only-binary :all: --python-version 3.11 --platform manylinux1_x86_64 \
    --platform manylinux2014_x86_64 --dest "$scratch/wheels" "$1" >/dev/null 2>"$scratch/pip" ||
    fail "pip could not download $1: $(grep -m1 ERROR "$scratch/pip"); check the network and pip's settings, and run it again"
  "$python" -m zipfile -e "$scratch"/wheels/"$(echo "${1%%==*}" | tr - _)"-*.whl "$2"
}
wheel tritonclient==2.51.0 "$scratch/client"
cp "$scratch"/client/*.data/data/bin/perf_analyzer "$program"
chmod 755 "$program"

"$root/scripts/fetch_package.sh" "$scratch/libb64" libb64-0d || fail "libb64.so.0d could not be fetched"
cp "$(find "$scratch/libb64" -name 'libb64.so.0d' | head -1)" "$folder/lib/"
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
library=$(find "$packages/nvidia_pytriton.libs" -name 'libcudart-*.so.12*' 2>/dev/null | head -1)
if [ -z "$library" ]; then
  wheel nvidia-cuda-runtime-cu12 "$scratch/cuda"
  library=$(find "$scratch/cuda" -name libcudart.so.12)
fi
cp "$library" "$folder/lib/libcudart.so.12"
runs "$scratch/said" || fail "$program does not run: $(head -1 "$scratch/said")"
echo "perf_analyzer is in $folder"
