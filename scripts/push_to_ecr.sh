#!/usr/bin/env bash
# Pushes the image to ECR in the form that SageMaker accepts, with a tag that names its commit, and waits for ECR's scan.
set -euo pipefail
export LC_ALL=C AWS_PAGER=''

usage() {
  cat <<'END'
usage: scripts/push_to_ecr.sh [options]

Builds the image for linux/amd64, pushes it to ECR as TAG-TARGET (v0.1.0-cpu: the commit's git tag, or else its short hash),
waits for ECR's scan, and prints the image's URI by digest, the only line on stdout. A repository that does not exist is made:
its tags cannot be moved, every push is scanned, and scripts/ecr_lifecycle.json decides which old images are deleted.

  --target cpu|gpu         the image to build [default: cpu]
  --repository NAME        of ECR [default: ncf-triton]
  --tag TAG                another tag, for a tree with changes that are not committed
  --image IMAGE --tag TAG  push an existing image, such as the one that was tested, and build nothing
  --accept CVE             a finding that was examined and is accepted; may be given several times
  --scan-timeout SECONDS   [default: 600]
  --dry-run                print every call of aws and docker, and make only the calls that change nothing
  -- OPTION...             anything else for `docker build`, such as --build-arg BASE_IMAGE=...

AWS_PROFILE, AWS_REGION and so on choose account and region. Set ECR_REGISTRY to the host to push through if the registry is
reached under another name than ECR's (a VPC endpoint, a proxy); the printed URI has ECR's name.

Exit codes: 2 for a mistake in the call or a tag that exists already; 1 for every other failure: a finding of HIGH or CRITICAL,
no scan in time, a manifest that SageMaker refuses.

Examples:
  URI=$(scripts/push_to_ecr.sh)
  AWS_PROFILE=prod AWS_REGION=eu-central-1 scripts/push_to_ecr.sh --target gpu
  scripts/push_to_ecr.sh --image ncf-triton:cpu --tag tried-out --dry-run
END
}

# shellcheck source=scripts/common.sh
source "${BASH_SOURCE[0]%"${BASH_SOURCE[0]##*/}"}common.sh"
# Runs a command that changes something, and prints it also where this is no dry run.
show_and_change() { show "$@"; [ -n "$dry_run" ] || "$@"; }

target=cpu repository=ncf-triton tag='' image='' accepted=' ' scan_timeout=600 dry_run='' more=()
exec 3>&1 >&2  # stdout is for the URI
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage >&3; exit 0 ;;
    --target) value "$@"; target=$2; shift ;;
    --repository) value "$@"; repository=$2; shift ;;
    --tag) value "$@"; tag=$2; shift ;;
    --image) value "$@"; image=$2; shift ;;
    --accept) value "$@"; accepted+="$2 "; shift ;;
    --scan-timeout) value "$@"; scan_timeout=$2; shift ;;
    --dry-run) dry_run=yes ;;
    --) shift; more=("$@"); break ;;
    *) fail "there is no option $1; see --help" ;;
  esac
  shift
done
case $target in cpu | gpu) ;; *) fail "--target is '$target'; choose cpu or gpu" ;; esac
case $scan_timeout in '' | *[!0-9]*) fail "--scan-timeout is '$scan_timeout'; it must be a number of seconds" ;; esac

cd "$(dirname "$0")/.."
for command in git aws docker; do command -v $command >/dev/null || fail "$command is missing; install it"; done
if [ -z "$tag" ]; then
  [ -z "$image" ] || fail "--image needs --tag, because the commit that $image was built from is unknown"
  changes=$(git status --porcelain) || fail "this is no git repository; give the image a name with --tag"
  [ -z "$changes" ] || fail "the working tree has changes, so no commit describes the image; commit these changes, or name the image with --tag
$changes"
  tag=$(git describe --tags --exact-match 2>/dev/null || git rev-parse --short=12 HEAD)-$target
fi
[[ $tag =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]] || fail "'$tag' is no tag; give one of letters, digits, '.', '_' and '-' with --tag"
[ -n "$dry_run" ] || docker info >/dev/null 2>&1 ||
  fail "no Docker engine answers${DOCKER_HOST:+ at $DOCKER_HOST}; start it (\`docker info\` says more)"
if [ -n "$image" ]; then
  platform=$(docker image inspect --format '{{.Os}}/{{.Architecture}}' "$image" 2>/dev/null) ||
    fail "there is no image $image here; \`docker image ls\` lists those there are"
  case $(docker image inspect --format '{{.Descriptor.MediaType}}' "$image" 2>/dev/null || true) in
    application/vnd.oci.*) fail "$image is in OCI's form, and SageMaker takes Docker's only; leave out --image, and it is built in that" ;;
  esac
  [ "$platform" = linux/amd64 ] || fail "$image is for $platform, and SageMaker takes linux/amd64; build it for that"
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# A call that changes nothing, so a dry run makes it too. Its output is in $answer; the reason of a failure is in a file.
ask() { [ -z "$dry_run" ] || show aws "$@"; answer=$(aws "$@" --output text 2>"$scratch/error"); }
refused() { grep -q "$1" "$scratch/error"; }
fail_as_refused() { fail "$(grep . "$scratch/error" | tail -n 1)${2:+; $2}" "$1"; }  # exit code, remedy

region=${AWS_REGION:-${AWS_DEFAULT_REGION:-$(aws configure get region || true)}}
[ -n "$region" ] || fail "no region is set; set AWS_REGION, such as AWS_REGION=eu-central-1"
export AWS_REGION=$region AWS_DEFAULT_REGION=$region  # version 1 of the command reads the second only
ask sts get-caller-identity --query Account || fail_as_refused 2 "set AWS_PROFILE, or run \`aws configure\`"
say "$repository:$tag in account $answer, region $region"

if ask ecr describe-repositories --repository-names "$repository" --query 'repositories[0].[repositoryUri,imageTagMutability]'; then
  read -r uri mutability <<<"$answer"
  [ "$mutability" = IMMUTABLE ] || fail "in the repository $repository a tag can be moved to another image; to end that:
aws ecr put-image-tag-mutability --repository-name $repository --image-tag-mutability IMMUTABLE"
elif refused RepositoryNotFoundException; then
  create=(aws ecr create-repository --repository-name "$repository" --image-tag-mutability IMMUTABLE
    --image-scanning-configuration scanOnPush=true --query repository.repositoryUri --output text)
  show "${create[@]}"
  uri=REGISTRY/$repository
  [ -n "$dry_run" ] || uri=$("${create[@]}")
else
  fail_as_refused 1
fi
if ! ask ecr get-lifecycle-policy --repository-name "$repository" --query registryId; then  # an existing policy stays as it is
  refused 'LifecyclePolicyNotFoundException\|RepositoryNotFoundException' || fail_as_refused 1
  put=(aws ecr put-lifecycle-policy --repository-name "$repository" --lifecycle-policy-text file://scripts/ecr_lifecycle.json)
  show "${put[@]}"
  [ -n "$dry_run" ] || "${put[@]}" >/dev/null
fi
pushed() {
  ask ecr describe-images --repository-name "$repository" --image-ids imageTag="$tag" \
    --query 'imageDetails[0].[imageDigest,imageManifestMediaType]'
}
if pushed; then
  fail "the tag $tag exists already, and tags cannot be moved: $uri@${answer%%$'\t'*}; use that image, or choose another --tag"
fi
refused 'ImageNotFoundException\|RepositoryNotFoundException' || fail_as_refused 1

registry=${ECR_REGISTRY:-${uri%%/*}}
name=$registry/${uri#*/}:$tag
echo "+ aws ecr get-login-password | docker login --username AWS --password-stdin $registry"
[ -n "$dry_run" ] || aws ecr get-login-password | docker login --username AWS --password-stdin "$registry"
build=(--platform linux/amd64 --target "$target" --build-arg "VERSION=$(git describe --tags --always --dirty 2>/dev/null)"
  --label "org.opencontainers.image.revision=$(git rev-parse HEAD 2>/dev/null)" ${more[@]+"${more[@]}"})
if [ -n "$image" ]; then
  show_and_change docker tag "$image" "$name"
  show_and_change docker push "$name"
elif docker buildx version >/dev/null 2>&1; then
  # SageMaker takes Docker's media types, not OCI's, and one image, not an index of an image and its attestations.
  show_and_change docker buildx build "${build[@]}" --provenance=false --sbom=false \
    --output "type=image,name=$name,oci-mediatypes=false,push=true" .
else
  show_and_change env DOCKER_BUILDKIT=1 docker build "${build[@]}" --tag "$name" .
  show_and_change docker push "$name"
fi

scan=(ecr describe-image-scan-findings --repository-name "$repository" --image-id)
severe="imageScanFindings.[findings, enhancedFindings][][] | [?severity=='CRITICAL' || severity=='HIGH'].[severity,
  name || packageVulnerabilityDetails.vulnerabilityId, uri || packageVulnerabilityDetails.sourceUrl]"
if [ -n "$dry_run" ]; then
  show aws "${scan[@]}" imageDigest=DIGEST
  exit 0
fi
unfit="do not use the image, which is in ECR already; to delete it: aws ecr batch-delete-image --repository-name $repository --image-ids imageTag=$tag"
pushed || fail_as_refused 1
IFS=$'\t' read -r digest media_type <<<"$answer"
[ "$media_type" = application/vnd.docker.distribution.manifest.v2+json ] || fail "the manifest is $media_type, and SageMaker
takes Docker's only; push with docker buildx, or from an engine without the containerd image store; $unfit" 1

status='' started='' deadline=$((SECONDS + scan_timeout))
until [ "$status" = COMPLETE ] || [ "$status" = ACTIVE ]; do  # ACTIVE: ECR scans as long as the image exists
  if ask "${scan[@]}" "imageDigest=$digest" --no-paginate --query 'imageScanStatus.[status, description]'; then
    IFS=$'\t' read -r status description <<<"$answer"
  elif refused ScanNotFoundException; then
    status=PENDING
    # Needed if the repository does not scan on push. ECR refuses it if a scan is about to begin, which does no harm.
    [ -n "$started" ] || aws ecr start-image-scan --repository-name "$repository" --image-id "imageDigest=$digest" >/dev/null 2>&1 || true
    started=yes
  else
    fail_as_refused 1
  fi
  case $status in
    COMPLETE | ACTIVE) ;;
    PENDING | IN_PROGRESS)
      [ "$SECONDS" -lt "$deadline" ] || fail "the scan is $status after $scan_timeout s; look at it later: aws ${scan[*]} imageDigest=$digest" 1
      say "scan: $status, $((deadline - SECONDS)) s left"
      sleep 3 ;;
    *) fail "the scan is $status: $description; $unfit" 1 ;;
  esac
done
ask "${scan[@]}" "imageDigest=$digest" --query "$severe" || fail_as_refused 1
findings=$(awk -F '\t' -v accepted="$accepted" 'NF > 1 && index(accepted, " " $2 " ") == 0' <<<"$answer")
[ -z "$findings" ] || fail "the scan found vulnerabilities that are HIGH or CRITICAL:
$findings
update the packages and commit, or examine each finding and push again with --accept; $unfit" 1
say "scan: $status, without a HIGH or CRITICAL finding that is not accepted"
printf '%s@%s\n' "$uri" "$digest" >&3
