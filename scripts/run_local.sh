#!/usr/bin/env bash
# Runs the image on this machine as SageMaker does: with the same verbs, folders, user and signals.
set -euo pipefail
export LC_ALL=C

usage() {
  cat <<'END'
usage: scripts/run_local.sh serve MODEL [options]
       scripts/run_local.sh multi-model ARCHIVE... [options]
       scripts/run_local.sh train DATA --output DIR [options]

serve        MODEL is a model repository, or a model.tar.gz, which is unpacked first; read-only at /opt/ml/model
multi-model  every ARCHIVE is unpacked at /opt/ml/models/<hash>/model; the printed curl lines load the models
train        DATA is a file, or a folder, for the channel `train`; DIR is made, and gets the job's /opt/ml/model and
             /opt/ml/output

  --image IMAGE                [default: ncf-triton:cpu]
  --port PORT                  on 127.0.0.1 [default: 8080]
  -e, --env NAME=VALUE         a variable for the container, such as CreateModel's Environment has
  --output DIR                 train: the folder to make
  --hyperparameter NAME=VALUE  train: an option of `ncf train` with underscores, model_name, or k
  --dry-run                    print the commands, and do nothing
  -- OPTION...                 anything else for `docker run`, such as --memory 2g

Ctrl-C stops the container as SageMaker does: SIGTERM, and SIGKILL after 30 seconds (120 in training). The exit code is the
container's, or 2 for a mistake in the call. --gpus all is added if nvidia-smi works and Docker has the nvidia runtime.

Examples:
  scripts/run_local.sh serve model_repository
  scripts/run_local.sh serve model.tar.gz --port 8081 -e SERVE_ACCESS_LOG=true -- --memory 2g
  scripts/run_local.sh multi-model food.tar.gz fashion.tar.gz
  scripts/run_local.sh train ratings.csv --output runs/local --hyperparameter epochs=5
END
}

# shellcheck source=scripts/common.sh
source "${BASH_SOURCE[0]%"${BASH_SOURCE[0]##*/}"}common.sh"

verb='' paths=() image=ncf-triton:cpu port=8080 output='' dry_run='' environment=() hyperparameters='' more=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --image) value "$@"; image=$2; shift ;;
    --port) value "$@"; port=$2; shift ;;
    --output) value "$@"; output=$2; shift ;;
    -e | --env) value "$@"; environment+=(--env "$2"); shift ;;
    --hyperparameter)
      value "$@"
      case $2 in ?*=*) ;; *) fail "--hyperparameter is '$2'; it must be NAME=VALUE, such as epochs=5" ;; esac
      pair=${2//\\/\\\\} pair=${pair//\"/\\\"}
      hyperparameters+="${hyperparameters:+, }\"${pair%%=*}\": \"${pair#*=}\""  # SageMaker passes every value on as text
      shift ;;
    --dry-run) dry_run=yes ;;
    --) shift; more=("$@"); break ;;
    -*) fail "there is no option $1; options of \`docker run\` go behind --; see --help" ;;
    *) if [ -z "$verb" ]; then verb=$1; else paths+=("$1"); fi ;;
  esac
  shift
done
case $verb in
  serve | train) [ "${#paths[@]}" -eq 1 ] || fail "$verb takes one path and got ${#paths[@]}; see --help" ;;
  multi-model) [ "${#paths[@]}" -gt 0 ] || fail "multi-model takes archives, such as food.tar.gz; see --help" ;;
  *) fail "'$verb' is not serve, multi-model or train; see --help" ;;
esac
for path in "${paths[@]}"; do
  [ -e "$path" ] || fail "$path does not exist"
  [ "$verb" != multi-model ] || [ -f "$path" ] || fail "$path is no archive; scripts/package_model.sh makes them"
done
case $port in *[!0-9]* | '' | ??????*) fail "--port is '$port'; it must be a number, such as 8080" ;; esac
if [ "$verb" = train ]; then
  [ -n "$output" ] || fail "train needs --output DIR, a folder to make"
  [ ! -e "$output" ] || fail "$output exists already; choose another --output"
else
  [ -z "$output$hyperparameters" ] || fail "--output and --hyperparameter are for train only"
fi

scratch=SCRATCH name=ncf-triton-local-$$ grace=30
if [ -z "$dry_run" ]; then
  command -v docker >/dev/null || fail "docker is missing; install Docker Engine or Docker Desktop"
  command -v curl >/dev/null || fail "curl is missing; install it"
  docker info >/dev/null 2>&1 || fail "no Docker engine answers${DOCKER_HOST:+ at $DOCKER_HOST}; start it (\`docker info\` says more)"
  docker image inspect "$image" >/dev/null 2>&1 ||
    fail "there is no image $image here; \`make image\` builds ncf-triton:cpu, \`docker pull\` fetches others"
  if [ "$verb" != train ] && (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    fail "port $port is in use; stop the program that uses it, or choose another, such as --port $((port + 1))"
  fi
  scratch=$(mktemp -d)
  trap 'docker rm --force "$name" >/dev/null 2>&1 || true; rm -rf "$scratch"' EXIT
fi

absolute() { if [ -d "$1" ]; then (cd "$1" && pwd); else printf '%s/%s' "$(cd "$(dirname "$1")" && pwd)" "${1##*/}"; fi; }
options=(--user 0:0)  # SageMaker runs containers as root
mount() {  # a path on this machine, its path in the container
  case $1 in *,*) fail "$1 has a comma, which docker's --mount cannot take; rename it" ;; esac
  options+=(--mount "type=bind,source=$1,target=$2,readonly")
}
unpack() {  # an archive, a folder to make
  change mkdir -p "$2"
  change tar -xzf "$1" -C "$2" || fail "$1 is no .tar.gz that SageMaker could unpack; scripts/package_model.sh makes them"
}
hash_of() { printf '%032x' "$(printf %s "$1" | cksum | cut -d' ' -f1)"; }  # 32 digits, as in SageMaker's names
write() { if [ -n "$dry_run" ]; then echo "+ write $scratch/config/$1: $2"; else printf '%s\n' "$2" >"$scratch/config/$1"; fi; }

case $verb in
  serve)
    models=$(absolute "${paths[0]}")
    [ -d "$models" ] || { unpack "${paths[0]}" "$scratch/model"; models=$scratch/model; }
    mount "$models" /opt/ml/model ;;
  multi-model)
    for path in "${paths[@]}"; do unpack "$path" "$scratch/models/$(hash_of "$path")/model"; done
    mount "$scratch/models" /opt/ml/models
    options+=(--env SAGEMAKER_MULTI_MODEL=true) ;;
  train)
    grace=120
    change mkdir -p "$scratch/config" "$output"
    write hyperparameters.json "{$hyperparameters}"
    write inputdataconfig.json '{"train": {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}}'
    write resourceconfig.json '{"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}'
    mount "$scratch/config" /opt/ml/input/config
    data=$(absolute "${paths[0]}")
    if [ -d "$data" ]; then mount "$data" /opt/ml/input/data/train; else mount "$data" "/opt/ml/input/data/train/${data##*/}"; fi
    options+=(--hostname algo-1 --env TRAINING_JOB_NAME=local) ;;
esac
if [ "$verb" != train ]; then
  options+=(--publish "127.0.0.1:$port:$port")
  [ "$port" = 8080 ] || options+=(--env "SAGEMAKER_BIND_TO_PORT=$port")
fi
if nvidia-smi >/dev/null 2>&1 && docker info --format '{{json .Runtimes}}' 2>/dev/null | grep -q nvidia; then
  options+=(--gpus all)
fi
run=(docker run --detach --name "$name" "${options[@]}" ${environment[@]+"${environment[@]}"} ${more[@]+"${more[@]}"}
  "$image" "${verb/multi-model/serve}")
collect() { for folder in model output; do change docker cp "$name:/opt/ml/$folder" "$output/"; done; }
if [ -n "$dry_run" ]; then
  show "${run[@]}"
  [ "$verb" != train ] || collect
  exit 0
fi

url=http://127.0.0.1:$port
ask() { curl --silent --noproxy '*' --max-time 10 "$@"; }
line() { echo "  curl -d $(quoted "$1") $url/$2"; }
questions() {
  local path hash recommender item
  say "ready after $SECONDS s; Ctrl-C stops it. To paste into another terminal, with a user of yours for USER_ID:"
  if [ "$verb" = multi-model ]; then
    for path in "${paths[@]}"; do
      hash=$(hash_of "$path")
      echo "  # $path"
      line "{\"model_name\": \"$hash\", \"url\": \"/opt/ml/models/$hash/model\"}" models
      line '{"user_id": "USER_ID", "k": 5}' "models/$hash/invoke"
      echo "  curl -X DELETE $url/models/$hash"
    done
    return
  fi
  for path in "$models"/*/; do
    recommender=$(basename "$path")
    compgen -G "$path/[1-9]*/recommender.json" >/dev/null || continue
    # An unknown user gets the most popular items; the first of them is an id to ask about.
    item=$(ask -d "{\"model\": \"$recommender\", \"user_id\": \"USER_ID\", \"k\": 1}" "$url/invocations" |
      sed -nE 's/.*"item_id": *([0-9]+|"[^"\\]*").*/\1/p') || true
    line "{\"model\": \"$recommender\", \"user_id\": \"USER_ID\", \"k\": 5}" invocations
    line "{\"model\": \"$recommender\", \"item_id\": ${item:-\"ITEM_ID\"}, \"k\": 5}" invocations
  done
  echo "  curl $url/models"
}

stopped='' ready='' late=''
stop() {
  trap '' INT TERM HUP
  stopped=yes
  say "stopping: SIGTERM, and SIGKILL after $grace s"
  docker stop -t "$grace" "$name" >/dev/null 2>&1 || true
}
trap stop INT TERM HUP
"${run[@]}" >/dev/null || exit  # docker has printed the reason
set -m  # the log gets a process group of its own, so Ctrl-C does not end it before the container ends
docker logs --follow "$name" &
set +m
running() { [ "$(docker inspect --format '{{.State.Running}}' "$name" 2>/dev/null)" = true ]; }
while [ "$verb" != train ] && [ -z "$stopped$ready" ] && running; do
  if ask --fail --output /dev/null "$url/ping"; then ready=yes; questions; break; fi
  [ "$SECONDS" -lt 480 ] || { late=yes; stop; }
  sleep 0.3
done
wait $! || true
[ -z "$stopped" ] || wait $! || true  # a signal ends the first one
code=$(docker inspect --format '{{.State.ExitCode}}' "$name")
if [ "$verb" = train ]; then
  if [ "$code" -eq 0 ]; then
    collect
    say "next: scripts/run_local.sh serve $(quoted "$output/model")"
  else
    (set +e; collect 2>/dev/null)  # the files that the job wrote before it failed
    [ ! -s "$output/output/failure" ] || say "FailureReason: $(cat "$output/output/failure")"
  fi
elif [ -n "$late" ]; then
  fail "/ping was not 200 within 8 minutes, which is SageMaker's own limit" 1
elif [ -z "$stopped$ready" ]; then
  say "the container ended before /ping was 200; its last lines above say why"
fi
say "the container's exit code is $code"
exit "$code"
