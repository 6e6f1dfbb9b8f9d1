#!/bin/bash
# Runs in the build of both images: installs the packages of requirements.txt into /opt/venv, without files that nothing uses.
#
#   install.sh FOLDER [PACKAGE…]    FOLDER holds requirements.txt and, if there are any, wheels to take instead of
#                                   downloading them; the PACKAGEs of requirements.txt are left out
# EXTRA_REQUIREMENTS is a file in FOLDER with more packages; pip refuses those that do not go with the others.
set -euo pipefail
folder=$1; shift
venv=/opt/venv

# pip itself is not installed, because an image does not need it.
python3 -m venv --without-pip "$venv"
install() { python3 -m pip --python "$venv/bin/python3" install --no-cache-dir --find-links "$folder" "$@"; }

left_out=none
for package; do [ -z "$package" ] || left_out+="|$package"; done
grep -vE "^($left_out)==" "$folder/requirements.txt" > "$folder/chosen.txt"
[ "${WITH_NVIDIA_PYINDEX:-0}" = 0 ] || install nvidia-pyindex
# Of nvidia-pytriton only the files are used (D85 in docs/decisions.md), so the packages that its Python code needs are not installed.
grep -v '^nvidia-pytriton==' "$folder/chosen.txt" > "$folder/with-dependencies.txt"
install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -r "$folder/with-dependencies.txt" \
  ${EXTRA_REQUIREMENTS:+-r "$folder/$EXTRA_REQUIREMENTS"}
if grep '^nvidia-pytriton==' "$folder/chosen.txt" > "$folder/files-only.txt"; then
  install --no-deps -r "$folder/files-only.txt"
fi

site=$("$venv/bin/python3" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# The app's stage compiles the pytorch backend against torch's headers; no image holds them.
if [ -d "$site/torch/include" ]; then mv "$site/torch/include" /build/torch-include; fi
# Test programs, tests of libraries, stubs for other Pythons; torch_shm_manager is a part of torch itself.
rm -rf "$site"/torch/test "$site"/setuptools "$site"/setuptools-*.dist-info "$site"/_distutils_hack "$site"/distutils-precedence.pth "$site"/pkg_resources
find "$site/torch/bin" -type f ! -name torch_shm_manager -delete 2> /dev/null || true
find "$site"/{numpy,sympy,networkx,mpmath,simplejson} -type d -name tests -prune -exec rm -rf {} + 2> /dev/null || true
version=$("$venv/bin/python3" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
find "$site"/pytriton/tritonserver/python_backend_stubs -mindepth 1 -maxdepth 1 ! -name "$version" -exec rm -rf {} + 2> /dev/null || true
[ "$version" = 3.13 ] || rm -f "$site"/nvidia_pytriton.libs/libpython3-*.13.so*
# Symbols for debuggers are a sixth of everything. Libraries in *.libs were patched by auditwheel, and stripping breaks them.
if [ "${STRIP:-0}" = 1 ]; then
  find "$site" -name '*.so*' -type f -size +1M ! -path '*.libs/*' -exec strip --strip-unneeded {} +
fi
# ncf and serve are beside the environment, so that a change to them is a small layer.
echo /opt/ncf-triton > "$site/ncf-triton.pth"
