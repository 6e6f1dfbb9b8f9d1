# Two bases, one behaviour: `docker run IMAGE train` and `docker run IMAGE serve` (docs/image.md).
#   docker build --target cpu -t ncf-triton:cpu .     Debian, the tritonserver of the nvidia-pytriton wheel, CPU torch
#   docker build --target gpu -t ncf-triton:gpu .     NVIDIA's Triton image with its libtorch backend, CUDA torch
# For GPU multi-model endpoints AWS wants its own Triton image below: --build-arg BASE_IMAGE=….sagemaker-tritonserver:…
ARG CPU_BASE_IMAGE=docker.io/library/debian:bookworm-20260824-slim@sha256:88200866dfff7ea7f5cbcb6ec7c8a701889efe6fe859fe64d6990e4b07ea4171
ARG BASE_IMAGE=nvcr.io/nvidia/tritonserver:26.09-py3

# --- cpu ----------------------------------------------------------------------------------------------------------------
FROM ${CPU_BASE_IMAGE} AS cpu-build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# The distribution's newest fixes are wanted, so its packages have no versions here.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get upgrade -y \
 && apt-get install -y --no-install-recommends \
    ca-certificates g++ libpython3.11 media-types netbase python3-pip python3-venv tzdata \
 && rm -rf /var/lib/apt/lists/*
COPY scripts/image/root.sh scripts/image/install.sh /build/image/
RUN /build/image/root.sh /root-of-image
# Wheels in a folder `wheels`, if there is one, are taken instead of downloads; PIP_NO_INDEX=1 makes that all there is.
# On the public index torch is the CUDA build, gigabytes of it, so its CPU build is looked for here.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG PIP_NO_INDEX=
# A file beside this one with more packages, for models in Python (docs/image.md).
ARG EXTRA_REQUIREMENTS=
COPY requirements.txt ${EXTRA_REQUIREMENTS:-requirements.txt} wheel[s] /build/wheels/
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf,required=false \
    STRIP=1 EXTRA_REQUIREMENTS="${EXTRA_REQUIREMENTS}" PIP_NO_INDEX="${PIP_NO_INDEX}" TORCH_INDEX="${TORCH_INDEX}" /build/image/install.sh /build/wheels

FROM cpu-build AS cpu-app
ARG PIP_NO_INDEX=
COPY scripts/image/install_app.sh /build/image/
COPY pyproject.toml requirements.txt README.md LICENSE /build/app/
COPY ncf /build/app/ncf
COPY serve /build/app/serve
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf,required=false \
    PIP_NO_INDEX="${PIP_NO_INDEX}" /build/image/install_app.sh /build/app

FROM scratch AS cpu
COPY --from=cpu-build /root-of-image /
COPY --from=cpu-build /opt/venv /opt/venv
COPY --from=cpu-app /opt/venv/share /opt/venv/share
COPY --from=cpu-app /opt/ncf-triton /opt/ncf-triton
ENV PATH=/opt/ncf-triton/bin:/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/tmp LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ARG VERSION=0.0.0
LABEL com.amazonaws.sagemaker.capabilities.multi-models=true \
      com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true \
      org.opencontainers.image.title=ncf-triton \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.version=${VERSION}
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD ["/opt/venv/bin/python3", "-m", "serve.healthcheck"]
# No entry point, so that SIGTERM reaches the verb itself; no user, because SageMaker runs containers as root.
ENTRYPOINT []
CMD ["serve"]

# --- gpu ----------------------------------------------------------------------------------------------------------------
FROM ${BASE_IMAGE} AS gpu-build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
COPY scripts/image/install.sh /build/image/
# torch is what `train` needs, gigabytes of it; Triton brings its own libtorch. Without it: --build-arg WITH_TORCH=0
ARG WITH_TORCH=1
# NVIDIA's own package index, for packages of yours that are only there; it changes where pip looks, so it is off.
ARG WITH_NVIDIA_PYINDEX=0
ARG TORCH_INDEX=
ARG PIP_NO_INDEX=
COPY requirements.txt wheel[s] /build/wheels/
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf,required=false \
    PIP_NO_INDEX="${PIP_NO_INDEX}" TORCH_INDEX="${TORCH_INDEX}" WITH_NVIDIA_PYINDEX="${WITH_NVIDIA_PYINDEX}" \
    /build/image/install.sh /build/wheels nvidia-pytriton "$([ "${WITH_TORCH}" = 1 ] || echo torch)"

FROM gpu-build AS gpu-app
ARG PIP_NO_INDEX=
COPY scripts/image/install_app.sh /build/image/
COPY pyproject.toml requirements.txt README.md LICENSE /build/app/
COPY ncf /build/app/ncf
COPY serve /build/app/serve
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf,required=false \
    PIP_NO_INDEX="${PIP_NO_INDEX}" /build/image/install_app.sh /build/app

FROM ${BASE_IMAGE} AS gpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
COPY --from=gpu-build /opt/venv /opt/venv
COPY --from=gpu-app /opt/ncf-triton /opt/ncf-triton
ENV PATH=/opt/ncf-triton/bin:/opt/venv/bin:${PATH} \
    HOME=/tmp LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# The base has a `serve` of its own where some callers look first; the checks fail the build where it would still run.
RUN ln -sf /opt/ncf-triton/bin/serve /usr/bin/serve \
 && for serve in serve /usr/bin/serve; do "$serve" --help | grep -q SERVE_MODEL_REPOSITORY || exit 1; done \
 && [ "$(command -v train)" = /opt/ncf-triton/bin/train ] \
 && [ -x /opt/tritonserver/bin/tritonserver ]
ARG VERSION=0.0.0
LABEL com.amazonaws.sagemaker.capabilities.multi-models=true \
      com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true \
      org.opencontainers.image.title=ncf-triton \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.version=${VERSION}
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD ["/opt/venv/bin/python3", "-m", "serve.healthcheck"]
# The base's entry point has words to say at every start; what it sets up for CUDA, serve/triton/runtime.py sees to.
ENTRYPOINT []
CMD ["serve"]
