#!/bin/bash
# Runs in the build of both images: installs ncf and serve from FOLDER into /opt/ncf-triton and checks that the verbs run them.
set -euo pipefail
python=/opt/venv/bin/python3

python3 -m pip --python "$python" install --no-cache-dir --no-deps --find-links /build/wheels --target /opt/ncf-triton "$1"
rm -f /opt/ncf-triton/bin/ncf-deploy  # the image is what is deployed; it holds no `deploy`
export PATH=/opt/ncf-triton/bin:$PATH
# Triton loads its backends from here. Laid out at each start instead, they would need a /tmp without noexec.
if "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("pytriton") is None)'; then
  headers=$(echo /opt/venv/lib/python3*/site-packages/torch)/include
  ln -s /build/torch-include "$headers"
  "$python" -m serve.triton.runtime
  rm "$headers"
  [ -e /opt/venv/share/ncf-triton/backends/pytorch/libtriton_pytorch.so ] || { echo "the pytorch backend was not built" >&2; exit 1; }
  "$python" -m compileall -q --invalidation-mode unchecked-hash /opt/venv/share/ncf-triton
fi
for verb in serve lambda train ncf; do
  [ "$(command -v $verb)" = "/opt/ncf-triton/bin/$verb" ] || { echo "$verb is not ours but $(command -v $verb)" >&2; exit 1; }
done
serve --help | grep -q SERVE_MODEL_REPOSITORY || { echo "serve does not start" >&2; exit 1; }
