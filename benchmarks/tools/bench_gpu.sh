#!/usr/bin/env bash
# Runs the benchmarks on a machine with a GPU and without a package index; another machine packs the packages that it lacks.
set -euo pipefail
export LC_ALL=C

usage() {
  cat <<'END'
usage: benchmarks/tools/bench_gpu.sh pack [DIR] [--python VERSION]
       benchmarks/tools/bench_gpu.sh run [--pack DIR] [--output DIR] [options] [-- OPTION...]

pack  on a machine with a package index: fetch into DIR [default: build/gpu-pack] the wheels of requirements.txt without
      torch and numpy, perf_analyzer, wrk, and libpython if this system has packages of that version
run   on the GPU machine, whose own Python has torch for CUDA and numpy: make .venv from the pack, and measure

  --python VERSION|PATH  pack: Python's version on the GPU machine [default: 3.12]; run: the Python with torch [default: python3]
  --pack DIR             [default: build/gpu-pack]
  --output DIR           folder for points and report [default: build/bench-gpu]
  --only SECTIONS        [default: in_process,sweep,ladder,topk]
  --device gpu|cpu       cpu: try this script on a machine without a GPU [default: gpu]
  -- OPTION...           options of python -m benchmarks.serving, such as --quick or --fresh

Exit code 2 is a mistake in the call. You may delete wheels from DIR/wheels that the GPU machine has already. Run the same
command again to continue an interrupted run.

Examples:
  benchmarks/tools/bench_gpu.sh pack --python 3.12                then carry the checkout with build/gpu-pack to the GPU machine; there:
  benchmarks/tools/bench_gpu.sh run --only in_process
  benchmarks/tools/bench_gpu.sh run --python /opt/torch/bin/python3 --output build/bench-h200 -- --quick
END
}

say() { printf '== %s\n' "$*"; }
fail() { printf 'bench_gpu.sh: %s\n' "$1" >&2; exit "${2:-1}"; }
value() { [ $# -gt 1 ] || fail "$1 takes a value; see --help" 2; }
absolute() { case $1 in /*) printf %s "$1" ;; *) printf '%s/%s' "$PWD" "$1" ;; esac; }

verb=${1:-} pack='' output='' python='' only=in_process,sweep,ladder,topk device=gpu options=() other=''
[ $# -eq 0 ] || shift
case $verb in
  -h | --help) usage; exit 0 ;;
  pack | run) ;;
  *) fail "the first argument is '$verb'; it must be pack or run, see --help" 2 ;;
esac
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --python) value "$@"; python=$2; shift ;;
    --pack) value "$@"; pack=$2 other=$1; shift ;;
    --output) value "$@"; output=$2 other=$1; shift ;;
    --only) value "$@"; only=$2 other=$1; shift ;;
    --device) value "$@"; device=$2 other=$1; shift ;;
    --) other=$1; shift; options=("$@"); break ;;
    -*) fail "there is no option $1; see --help" 2 ;;
    *) [ "$verb" = pack ] && [ -z "$pack" ] || fail "unexpected argument '$1'; see --help" 2; pack=$1 ;;
  esac
  shift
done
[ "$verb" = run ] || [ -z "$other" ] || fail "$other is for run only; see --help" 2
case $device in gpu | cpu) ;; *) fail "--device is '$device'; it must be gpu or cpu" 2 ;; esac
root=$(cd "$(dirname "$0")/../.." && pwd)
pack=$(absolute "${pack:-$root/build/gpu-pack}") output=$(absolute "${output:-$root/build/bench-gpu}")
case $python in */*) python=$(absolute "$python") ;; esac
cd "$root"
scratch=$(mktemp -d) unfinished=''
trap 'rm -rf "$scratch" ${unfinished:+"$unfinished"}' EXIT

make_pack() {
  local version=${python:-3.12} platforms=() glibc names own=.venv/bin/python
  case $version in 3.10 | 3.11 | 3.12) ;; *) fail "--python is '$version'; the project runs on 3.10, 3.11 and 3.12" 2 ;; esac
  [ -x "$own" ] || fail "$own is missing; run: make .venv/ready"
  for glibc in 39 35 34 31 28 27 26 24 17; do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
  [ -e "$pack/made-by-bench-gpu" ] || [ -z "$(ls -A "$pack" 2>/dev/null)" ] ||
    fail "$pack has files that this script did not write; name a new folder"
  mkdir -p "$pack"
  touch "$pack/made-by-bench-gpu"
  rm -rf "${pack:?}/wheels" "${pack:?}/lib"
  fetch() {  # arguments of `pip download` for the GPU machine's Python; any glibc from 2.17 to 2.39
    "$own" -m pip download --quiet --only-binary :all: --python-version "$version" --implementation cp \
      --abi "cp${version/./}" --abi abi3 --abi none "${platforms[@]}" --platform manylinux2014_x86_64 \
      --platform manylinux1_x86_64 --dest "$pack/wheels" "$@" >/dev/null 2>"$scratch/pip" ||
      fail "pip could not download wheels: $(grep -m1 ERROR "$scratch/pip"); check the network and pip's settings, and repeat"
  }
  say "wheels for Python $version"
  # Only the tritonserver inside nvidia-pytriton is used, so the packages that nvidia-pytriton imports are not needed.
  grep -E '^nvidia-pytriton' requirements.txt >"$scratch/server" || fail "requirements.txt does not name nvidia-pytriton"
  grep -Ev '^(torch|numpy|nvidia-pytriton)\b|^#' requirements.txt >"$scratch/names"
  fetch --no-deps --requirement "$scratch/server"
  fetch --requirement "$scratch/names" pip setuptools
  rm -f "$pack"/wheels/numpy-*.whl  # the GPU machine has its own, which fits its torch
  say "perf_analyzer and wrk"
  benchmarks/tools/get_perf_analyzer.sh "$pack/perf_analyzer"
  benchmarks/tools/get_wrk.sh "$pack/wrk"
  mkdir -p "$pack/lib"
  if scripts/fetch_package.sh "$scratch/libpython" "libpython$version" 2>/dev/null; then
    find "$scratch/libpython" -name "libpython$version.so.1.0" -exec cp {} "$pack/lib/" ';'
  else
    say "this system has no package libpython$version: the GPU machine needs its own"
  fi
  echo "$version" >"$pack/python"
  names=("$pack"/wheels/*)
  say "$(du -sh "$pack" | cut -f1) in $pack, ${#names[@]} wheels; next, on the GPU machine: benchmarks/tools/bench_gpu.sh run --pack DIR"
}

check_torch() {
  "$python" - "$device" <<'PY' || exit 1
import sys
def fail(text):
    sys.exit(f"bench_gpu.sh: {text}")
version = f"{sys.version_info.major}.{sys.version_info.minor}"
try:
    import numpy, torch
except ImportError as error:
    fail(f"{sys.executable} cannot import torch and numpy ({error}); name a Python with both by --python")
if sys.argv[1] == "gpu" and torch.version.cuda is None:
    fail(f"torch {torch.__version__} of {sys.executable} is not built for CUDA; name another Python by --python, "
         "or try the script with --device cpu")
if sys.argv[1] == "gpu" and not torch.cuda.is_available():
    fail(f"torch {torch.__version__} of {sys.executable} sees no GPU; check that nvidia-smi works and that its driver is "
         f"new enough for CUDA {torch.version.cuda}, or try the script with --device cpu")
gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
print(f"== Python {version}, torch {torch.__version__}, numpy {numpy.__version__}, {gpu}")
PY
}

check_environment() {  # fails early; a pack is needed only if .venv has to be made
  local wanted
  command -v "$python" >/dev/null || fail "$python is missing; name the Python with torch by --python"
  if [ -e .venv/ready-gpu ]; then
    [ "$(cat .venv/ready-gpu)" = "$python" ] ||
      fail ".venv was made with $(cat .venv/ready-gpu); remove it, or give --python $(cat .venv/ready-gpu)"
    return
  fi
  [ ! -e .venv ] || fail ".venv was not made by this script; run it in another checkout, or move .venv away"
  [ -f "$pack/python" ] ||
    fail "$pack is not a pack; run benchmarks/tools/bench_gpu.sh pack on a machine with an index, carry it here, and name it by --pack"
  wanted=$("$python" -c 'import sys; print(f"{sys.version_info.major}.{sys.version_info.minor}")')
  [ "$(cat "$pack/python")" = "$wanted" ] ||
    fail "$pack is for Python $(cat "$pack/python"), but $python is $wanted; pack again with --python $wanted"
}

make_environment() {
  local installer
  installer=$(find "$pack/wheels" -name 'pip-*.whl' | head -1)
  [ -n "$installer" ] || fail "$pack/wheels has no pip; pack again"
  say "making .venv"
  unfinished=$root/.venv
  "$python" -m venv --without-pip .venv
  # Paths instead of --system-site-packages, which would show the base of a Python that is a virtual environment itself.
  "$python" - >"$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/machine.pth" <<'PY'
import pathlib, sys, torch
folders = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
print("\n".join(dict.fromkeys([*folders, str(pathlib.Path(torch.__file__).parents[1])])))
PY
  export PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
  .venv/bin/python "$installer/pip" install --quiet --no-deps --ignore-installed "$pack"/wheels/*.whl
  .venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable . >"$scratch/pip" 2>&1 ||
    fail "pip could not install the checkout: $(grep -m1 -i error "$scratch/pip")"
  .venv/bin/python - "$pack/lib" "$device" <<'PY' || exit 1
import ctypes, pathlib, re, shutil, sys, sysconfig
from importlib.metadata import PackageNotFoundError, version
lacking = []
for line in pathlib.Path("requirements.txt").read_text().splitlines():
    if name := re.match(r"[A-Za-z0-9_-]+", line):
        try:
            version(name[0])
        except PackageNotFoundError:
            lacking.append(name[0])
if lacking:
    sys.exit(f"bench_gpu.sh: this machine and the pack lack {', '.join(lacking)}; pack again")
own, library = pathlib.Path(sys.prefix, "lib"), f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
def loads(name):
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
# serve looks for libpython in LIBDIR, in .venv/lib, and then in the folders of the system.
if not pathlib.Path(sysconfig.get_config_var("LIBDIR") or "", library).exists() and not loads(library):
    found = [path for path in (pathlib.Path(sys.base_prefix, "lib", library), pathlib.Path(sys.argv[1], library)) if path.exists()]
    if not found:
        sys.exit(f"bench_gpu.sh: {library} is missing, which Triton's Python stub needs; as root, run apt-get install "
                 f"{library.removesuffix('.so.1.0')}, or put the file into {sys.argv[1]}")
    shutil.copy(found[0], own)
# Triton opens the driver by the name libcuda.so, which some machines with libcuda.so.1 lack; it searches .venv/lib.
if sys.argv[2] == "gpu" and not loads("libcuda.so") and loads("libcuda.so.1"):
    maps = pathlib.Path("/proc/self/maps").read_text()
    (own / "libcuda.so").symlink_to(re.search(r"(/\S*/libcuda\.so\S*)", maps)[1])
PY
  [ ! -d "$pack/perf_analyzer" ] || cp -R "$pack/perf_analyzer" .venv/perf_analyzer
  [ ! -d "$pack/wrk" ] || cp -R "$pack/wrk" .venv/wrk
  echo "$python" >.venv/ready-gpu
  unfinished=''
}

measure() {
  local sections=${only//topk/} code=0
  sections=$(printf %s "$sections" | tr -s , | sed 's/^,//; s/,$//')
  mkdir -p "$output"
  if [ -n "$sections" ]; then
    .venv/bin/python -m benchmarks.serving --device "$device" --only "$sections" --output "$output" \
      ${options[@]+"${options[@]}"} || code=$?
  fi
  [ "$code" -lt 130 ] || exit "$code"  # interrupted
  case ,$only, in
    *,topk,*)
      .venv/bin/python -m benchmarks.ranking --device "$device" --only catalogue,device --output "$output/topk" \
        ${options[@]+"${options[@]}"} || code=$? ;;
  esac
  say "points and report: $output"
  exit "$code"
}

if [ "$verb" = pack ]; then
  make_pack
  exit
fi
python=${python:-python3}
check_environment
check_torch
[ -e .venv/ready-gpu ] || make_environment
export PATH=$root/.venv/bin:$PATH
program=$(.venv/bin/python - "$scratch" <<'PY'
import pathlib, sys
from serve.triton.runtime import RuntimeNotFoundError, find_runtime
try:
    print(find_runtime(pathlib.Path(sys.argv[1])).program)
except RuntimeNotFoundError as error:
    sys.exit(f"bench_gpu.sh: {error}")
PY
) || exit 1
say "tritonserver: $program"
measure
