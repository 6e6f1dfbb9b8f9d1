#!/bin/bash
# Builds the images with a real Docker engine, runs them hardened, and tests them: `make test-image`.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'HELP'
usage: .ci/image.sh [--build-only] [PYTEST ARGUMENT…]

Builds both images (the gpu one on a stand-in for NVIDIA's) and runs tests/image and the contract's tests
against them. Uses the engine that is running. If none runs, root on Debian or Ubuntu gets one until the script ends.
If the registry cannot be reached, debootstrap makes a base, and the wheels come from this machine's own pip.
If no engine can start, the script prints that the image is not tested and ends with exit code 0.

  .ci/image.sh                             everything
  .ci/image.sh -k sigterm -x               only the tests of tests/image that pytest selects
  .ci/image.sh --build-only                build into the engine that is running, and leave the images there
HELP
}
build_only=false
case "${1:-}" in
  -h|--help) usage; exit 0 ;;
  --build-only) build_only=true; shift ;;
esac

began=$SECONDS
step() { echo "image: [$((SECONDS - began)) s] $*"; }
python=.venv/bin/python
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ncf-triton
# Not /tmp, which is memory on some machines: an engine keeps its images here.
work=$(mktemp -d "${TMPDIR:-/var/tmp}/ci-image.XXXXXX")
cpu=localhost/ncf-ci-cpu gpu=localhost/ncf-ci-gpu stage=localhost/ncf-ci-cpu-build ngc=localhost/ncf-ci-ngc
own_engine=false
cleanup() {
  if $own_engine; then
    .ci/docker_engine.sh stop "$work/engine"
  elif ! $build_only; then
    docker image rm "$cpu" "$gpu" "$stage" "$ngc" > /dev/null 2>&1 || true
  fi
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# --- an engine. Debian's client has BuildKit built in; another client on PATH may need a plug-in for it.
if ! docker info > /dev/null 2>&1; then
  if $build_only; then echo "image: no engine answers; --build-only needs one that runs on" >&2; exit 2; fi
  own_engine=true status=0
  .ci/docker_engine.sh start "$work/engine" || status=$?
  [ "$status" = 3 ] && { echo "image: the image is NOT tested here"; exit 0; }
  [ "$status" = 0 ] || exit "$status"
  export DOCKER_HOST=unix://$work/engine/docker.sock
  if [ -x /usr/bin/docker ]; then mkdir "$work/bin"; ln -s /usr/bin/docker "$work/bin/docker"; export PATH=$work/bin:$PATH; fi
  step "an engine of our own is up"
fi
export DOCKER_BUILDKIT=1

# --- the base and the build's context
# A secret that must not be found in any layer.
printf '# ncf-ci-secret\n[global]\nretries = 1\n' > "$work/pip.conf"
arguments=(--network host --secret "id=pip_conf,src=$work/pip.conf" --build-arg "VERSION=$(git describe --tags --always 2> /dev/null || echo 0.0.0)")
context=$work/context
mkdir -p "$context/scripts" "$context/wheels"
cp -R Dockerfile .dockerignore requirements.txt pyproject.toml README.md LICENSE ncf serve "$context/"
cp -R scripts/image "$context/scripts/"
base=$(sed -n 's/^ARG CPU_BASE_IMAGE=//p' Dockerfile)
if ! timeout 60 docker pull "$base" > "$work/pull.log" 2>&1; then
  if grep -qE 'manifest unknown|not found: manifest' "$work/pull.log"; then cat "$work/pull.log" >&2; exit 1; fi
  base=localhost/ncf-ci-debian:bookworm
  mkdir -p "$cache"
  if [ -z "$(find "$cache/debian.tar" -mtime -7 2> /dev/null)" ]; then scripts/image/debian_base.sh "$cache/debian.tar"; fi
  docker import -c 'CMD ["bash"]' "$cache/debian.tar" "$base" > /dev/null
  step "the registry cannot be reached: a base made by debootstrap"
  # pip's cache already holds the wheels that are installed on this machine; 3.11 is the Python of that Debian.
  grep -v '^nvidia-pytriton==' requirements.txt > "$work/with-dependencies.txt"
  grep '^nvidia-pytriton==' requirements.txt > "$work/files-only.txt"
  for what in "-r $work/with-dependencies.txt setuptools==80.9.0" "--no-deps -r $work/files-only.txt"; do
    # shellcheck disable=SC2086
    "$python" -m pip download --quiet --only-binary :all: --python-version 3.11 --dest "$context/wheels" $what \
      2> "$work/pip.log" || { cat "$work/pip.log"; exit 1; }
  done
  arguments+=(--build-arg "CPU_BASE_IMAGE=$base" --build-arg PIP_NO_INDEX=1 --build-arg TORCH_INDEX=)
  step "wheels downloaded"
fi

build() {  # build NAME CONTEXT ARGUMENT…
  docker build --progress=plain "${arguments[@]}" -t "$1" "${@:3}" "$2" > "$work/build.log" 2>&1 || { tail -40 "$work/build.log"; exit 1; }
  step "built $1: $(($(docker image inspect -f '{{.Size}}' "$1") / 1000000)) MB"
}
build "$cpu" "$context" --target cpu
build "$stage" "$context" --target cpu-build
build "$ngc" tests/image/ngc_stand_in --build-arg "BASE=$base" --build-arg "CPU_BUILD=$stage"
build "$gpu" "$context" --target gpu --build-arg WITH_TORCH=0 --build-arg "BASE_IMAGE=$ngc"
"$python" scripts/image/sbom.py "$cpu" --output "$work/sbom.json"
if $build_only; then exit; fi

if ! command -v docker-registry > /dev/null && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends docker-registry; } \
    > "$work/apt.log" 2>&1 || tail -1 "$work/apt.log"
fi
export NCF_IMAGE=$cpu NCF_GPU_IMAGE=$gpu
"$python" -m pytest tests/image "$@"
step "tests/image passed"
[ $# = 0 ] || exit 0
# Tests that look at the processes of `serve` from outside, or start it in another way, cannot run against an image.
"$python" -m pytest tests/contracts/test_invocations.py tests/contracts/test_hosting.py \
  -k "not c014 and not c023_without and not environment"
step "the contract's tests passed against the cpu image"
NCF_IMAGE=$gpu "$python" -m pytest tests/contracts/test_hosting.py -k "c007_what or c021 or c025 or c026"
step "some of them passed against the gpu image on its stand-in"
