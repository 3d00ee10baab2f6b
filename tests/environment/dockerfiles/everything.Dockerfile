# ubuntu:24.04
FROM ubuntu@sha256:abababababababababababababababababababababababababababababababab
USER root
RUN --mount=type=cache,id=pushtrain-apt-abababababab,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=pushtrain-lists-abababababab,target=/var/lib/apt,sharing=locked \
    rm -f /etc/apt/apt.conf.d/docker-clean && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    git
RUN --mount=type=bind,target=/run/pushtrain \
    --mount=type=bind,from=mambaorg/micromamba:2.3.0,source=/bin,target=/run/pushtrain-micromamba \
    --mount=type=cache,id=pushtrain-conda,target=/root/.cache/pushtrain-conda,sharing=locked \
    --mount=type=secret,id=TOKEN,required \
    TOKEN="$(cat /run/secrets/TOKEN)" && export TOKEN \
    && MAMBA_ROOT_PREFIX=/opt/conda-root CONDA_PKGS_DIRS=/root/.cache/pushtrain-conda \
    /run/pushtrain-micromamba/micromamba create --yes --always-copy --prefix /opt/conda \
    --file /run/pushtrain/environment.yml
ENV PATH=/opt/conda/bin:$PATH
RUN --mount=type=bind,target=/run/pushtrain \
    --mount=type=cache,id=pushtrain-uv,target=/root/.cache/pushtrain-uv,sharing=shared \
    --mount=type=secret,id=TOKEN,required \
    TOKEN="$(cat /run/secrets/TOKEN)" && export TOKEN \
    && if [ -f /etc/ssl/certs/ca-certificates.crt ]; then export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt; fi \
    && UV_CACHE_DIR=/root/.cache/pushtrain-uv UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never \
    /run/pushtrain/uv pip install --no-progress --python /opt/conda/bin/python --break-system-packages \
    -r /run/pushtrain/requirements.txt
