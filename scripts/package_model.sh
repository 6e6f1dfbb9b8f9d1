#!/usr/bin/env bash
# Makes the model.tar.gz that SageMaker unpacks, and checks its content before it gets its final name.
set -euo pipefail
export LC_ALL=C

usage() {
  cat <<'END'
usage: scripts/package_model.sh [-o ARCHIVE] [--force] MODEL...

Packs models of a Triton model repository for SageMaker. MODEL is a model's folder or a whole repository; of a
recommender NAME the models that its recommender.json names (NAME_query, and NAME_topk if it was exported) come along, in
the newest version that all of them have. Other models are packed with all their versions.

  -o, --output ARCHIVE   the file to write [default: model.tar.gz]
  -f, --force            write it even if it exists

The same files give the same archive, byte for byte: sorted, owned by 0:0, links replaced by what they point to. Hidden
files (withdrawn versions, the remains of a killed export, .DS_Store), __pycache__ and older versions are left out.

Examples:
  scripts/package_model.sh model_repository/ncf_food_model                  one endpoint, one recommender
  scripts/package_model.sh model_repository                                 one endpoint, every model there is
  scripts/package_model.sh model_repository/ncf_food_model -o food.tar.gz   one of many on a multi-model endpoint
END
}

# shellcheck source=scripts/common.sh
source "${BASH_SOURCE[0]%"${BASH_SOURCE[0]##*/}"}common.sh"

output=model.tar.gz force='' given=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    -o | --output) [ $# -gt 1 ] || fail "$1 takes the name of the archive, such as model.tar.gz"; output=$2; shift ;;
    -f | --force) force=yes ;;
    -*) fail "there is no option $1; see --help" ;;
    *) given+=("$1") ;;
  esac
  shift
done
[ "${#given[@]}" -gt 0 ] || fail "no model given, such as model_repository/ncf_food_model; see --help"
[ -d "$(dirname "$output")" ] || fail "the folder of $output does not exist; make it, or choose another --output"
[ ! -d "$output" ] || fail "$output is a folder; --output takes the name of the archive, such as model.tar.gz"
[ -n "$force" ] || [ ! -e "$output" ] || fail "$output exists already; choose another --output, or add --force"
# macOS' own tar cannot set owners and times.
tar=tar
"$tar" --version 2>/dev/null | grep -q GNU || tar=gtar
command -v "$tar" >/dev/null || fail "GNU tar is missing; on macOS: brew install gnu-tar"

scratch=$(mktemp -d) partial=$(dirname "$output")/.$(basename "$output").$$
trap 'rm -rf "$scratch" "$partial"' EXIT
stage=$scratch/stage unpacked=$scratch/unpacked  # $stage holds a link to every model to pack
mkdir "$stage" "$unpacked"

versions() { find -L "$1" -mindepth 1 -maxdepth 1 -type d | sed 's|.*/||' | grep -Ex '[1-9][0-9]{0,9}' | sort -rn || true; }
is_model() { [ -f "$1/config.pbtxt" ] || [ -n "$(versions "$1")" ]; }
is_recommender() { compgen -G "$1/[1-9]*/recommender.json" >/dev/null; }
names() { grep -qs "\"$1\"" "${@:2}"; }  # whether one of these files recommender.json names a model
is_part() { case $1 in *_topk | *_query) names "$1" "$2/${1%_*}"/*/recommender.json "$2/${1%_*}"/.[!.]*/recommender.json ;; *) false ;; esac; }  # name, repository

add() {  # adds a model's folder to the stage
  local name
  name=$(basename "$1")
  case $name in [!A-Za-z0-9]* | *[!A-Za-z0-9._-]*)
    fail "'$name' is no name that Triton's backends can take; use letters, digits, '.', '_' and '-'" ;;
  esac
  if [ -L "$stage/$name" ]; then
    [ "$(readlink "$stage/$name")" = "$1" ] || fail "two models are named $name: $(readlink "$stage/$name") and $1"
  else
    ln -s "$1" "$stage/$name"
  fi
}

for folder in "${given[@]}"; do
  [ -d "$folder" ] || fail "$folder is no folder; give a model's folder, such as model_repository/ncf_food_model"
  path=$(cd "$folder" && pwd)
  if is_model "$path"; then
    add "$path"
    continue
  fi
  found=''
  for model in "$path"/*/; do
    if [ -d "$model" ] && is_model "${model%/}"; then add "${model%/}"; found=yes; fi
  done
  [ -n "$found" ] || fail "$folder holds no model; a model is a folder with config.pbtxt and <version>/, and \`ncf export\` writes one"
done

leave_out=() notes=()
for link in "$stage"/*; do
  [ -L "$link" ] || continue
  name=${link##*/} home=$(readlink "$link")
  if is_part "$name" "${home%/*}" && [ ! -e "$stage/${name%_*}" ]; then
    fail "$name is a part of the recommender ${name%_*}; give ${home%/*}/${name%_*}, and its parts come along"
  fi
  is_recommender "$link" || continue
  chosen='' missing=''
  for version in $(versions "$link"); do
    parts=("$name" "${name}_query")
    if names "${name}_topk" "$link/$version/recommender.json"; then parts+=("${name}_topk"); fi
    for file in "$name/$version/recommender.json" "${parts[@]/%//$version/model.pt}"; do
      [ -f "${home%/*}/$file" ] || { missing=${missing:-version $version of $name is not whole: $file is missing}; continue 2; }
    done
    chosen=$version
    break
  done
  [ -n "$chosen" ] || fail "$missing; export it again with \`ncf export\`"
  [ -z "$missing" ] || notes+=("$missing; packed version $chosen")
  if [ -L "$stage/${name}_topk" ] && [ "${#parts[@]}" -eq 2 ] && is_part "${name}_topk" "${home%/*}"; then
    rm "$stage/${name}_topk"
    notes+=("${name}_topk is left out: version $chosen of $name has no such model")
  fi
  for part in "${parts[@]}"; do
    add "${home%/*}/$part"
    for version in $(versions "${home%/*}/$part"); do
      [ "$version" = "$chosen" ] || leave_out+=(-path "$part/$version" -prune -o)
    done
  done
done

staged() {  # find's actions for the files and folders to pack
  (cd "$stage" && find -L -- * ${leave_out[@]+"${leave_out[@]}"} \( -name '.*' -o -name __pycache__ -o -name __MACOSX \) -prune -o "$@")
}
dangling=$(staged -type l -print)
[ -z "$dangling" ] || fail "a link points to nothing: ${dangling%%$'\n'*}; put the file in its place, or delete it"
staged \( -type f -o -type d \) -print0 | sort -z >"$scratch/entries"
staged -type f -print0 | sort -z >"$scratch/files"
checksums() { (cd "$1" && xargs -0 cksum <"$scratch/files"); }
checksums "$stage" >"$scratch/packed"
# All files get one time, which is computed from their contents. serve distinguishes files of one name by size and time; with a
# constant time it could take files of a second archive, unpacked over the first, for the first archive's.
time=$((1000000000 + $(cksum <"$scratch/packed" | cut -d' ' -f1) % 500000000))
"$tar" --create --format=gnu --owner=0 --group=0 --numeric-owner --mode='u=rwX,go=rX' --mtime="@$time" --dereference \
  --hard-dereference --directory="$stage" --no-recursion --null --files-from="$scratch/entries" | gzip -n >"$partial"

"$tar" -xzf "$partial" -C "$unpacked"
checksums "$unpacked" | cmp -s - "$scratch/packed" || fail "the models changed while they were packed; run it again"
ensembles='' asked=()
for model in "$unpacked"/*; do
  name=${model##*/} config=$model/config.pbtxt
  [ -f "$config" ] || fail "$name has no config.pbtxt; write one, or export it with \`ncf export\`"
  [ -n "$(versions "$model")" ] || fail "$name has no version; it needs a folder such as $name/1/ with model.pt"
  is_part "$name" "$unpacked" || asked+=("$name")
  if grep -Eq 'platform: *"ensemble"' "$config"; then ensembles=yes; continue; fi  # its versions are empty folders
  grep -q default_model_filename "$config" && continue
  for version in $(versions "$model"); do
    compgen -G "$model/$version/model.*" >/dev/null || fail "$name/$version holds no model.pt; put it there, or delete the folder"
  done
done

mv -f "$partial" "$output"
bytes() { awk -v bytes="$1" 'BEGIN { printf "%.1f MB", bytes / 1e6 }'; }
echo "wrote $output: $(bytes "$(wc -c <"$output")"), unpacked $(bytes "$(awk '{ sum += $2 } END { print sum }' "$scratch/packed")")"
for model in "$unpacked"/*; do
  printf '  %s, version %s\n' "${model##*/}" "$(versions "$model" | sort -n | tr '\n' ' ' | sed 's/ $//; s/ /, /g')"
done
[ "${#asked[@]}" -eq 1 ] || [ -n "$ensembles" ] ||
  notes+=("for a multi-model endpoint make an archive of each of ${asked[*]}: there an archive is one model or recommender")
for note in ${notes[@]+"${notes[@]}"}; do echo "note: $note"; done
echo "next:"
echo "  scripts/run_local.sh serve $(quoted "$output")"
echo "  aws s3 cp $(quoted "$output") s3://BUCKET/PREFIX/$(quoted "$(basename "$output")")"
