#!/bin/bash
# Runs in the build of the cpu image: copies the files of a few Debian packages, and nothing else, into the folder TARGET.
#
# A file that is not there cannot be attacked and needs no patch: there is no package manager, no perl, no coreutils and no
# setuid file. bash stays, and is sh as well, because Triton starts the processes of its Python backend through both.
set -euo pipefail
target=$1

packages=(
  base-files netbase media-types tzdata
  libc6 libc-bin libgcc-s1 libstdc++6 zlib1g bash libtinfo6
  python3-minimal python3.11-minimal python3.11 libpython3.11 libpython3.11-minimal libpython3.11-stdlib
  libbz2-1.0 libcrypt1 libexpat1 libffi8 liblzma5 libncursesw6 libreadline8 libsqlite3-0 libssl3 libuuid1
)

mkdir -p "$target"/{dev,proc,sys,run,tmp,opt,root,etc,usr/bin,usr/sbin,usr/lib,usr/lib64,var/tmp,var/lib/dpkg}
chmod 1777 "$target/tmp" "$target/var/tmp"
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$target/$folder"; done

# Manuals, and files that a container's engine writes itself, are left out; copyright files are kept.
dpkg -L "${packages[@]}" | sort -u | while read -r file; do
  case "$file" in
    /usr/share/man/*|/usr/share/info/*|/usr/share/locale/*|/usr/share/lintian/*|/etc/hosts|/etc/hostname) continue ;;
  esac
  if [ -L "$file" ] || [ -f "$file" ]; then cp -a --parents "$file" "$target"; fi
done
# Compiled here once, because on a read-only root every process would compile again.
python3 -m compileall -q --invalidation-mode unchecked-hash -s "$target" "$target/usr/lib/python3.11"
ln -s bash "$target/usr/bin/sh"
# Scanners and the list of parts read the packages' versions here.
dpkg-query -s "${packages[@]}" > "$target/var/lib/dpkg/status"

printf 'root:x:0:0:root:/root:/bin/bash\nncf:x:1000:1000:ncf:/tmp:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n' > "$target/etc/passwd"
printf 'root:x:0:\nncf:x:1000:\nnogroup:x:65534:\n' > "$target/etc/group"
ldconfig -r "$target"
find "$target" -xdev -perm /6000 -type f -exec chmod a-s {} +
