# python:3.11-slim
FROM python@sha256:abababababababababababababababababababababababababababababababab
USER root
RUN --mount=type=cache,id=pushtrain-apt-abababababab,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=pushtrain-lists-abababababab,target=/var/lib/apt,sharing=locked \
    rm -f /etc/apt/apt.conf.d/docker-clean && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    openmpi-bin
RUN if command -v python3 >/dev/null && ! command -v python >/dev/null; then \
    ln -s "$(command -v python3)" /usr/local/bin/python; fi
RUN --mount=type=bind,target=/run/pushtrain \
    --mount=type=cache,id=pushtrain-uv,target=/root/.cache/pushtrain-uv,sharing=shared \
    if [ -f /etc/ssl/certs/ca-certificates.crt ]; then export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt; fi \
    && UV_CACHE_DIR=/root/.cache/pushtrain-uv UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never \
    /run/pushtrain/uv pip install --no-progress --system --break-system-packages \
    -r /run/pushtrain/requirements.txt -c /run/pushtrain/constraints.txt
RUN --mount=type=bind,target=/run/pushtrain \
    --mount=type=cache,id=pushtrain-uv,target=/root/.cache/pushtrain-uv,sharing=shared \
    if [ -f /etc/ssl/certs/ca-certificates.crt ]; then export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt; fi \
    && UV_CACHE_DIR=/root/.cache/pushtrain-uv UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never \
    /run/pushtrain/uv pip install --no-progress --system --break-system-packages \
    -r /run/pushtrain/horovod.txt -c /run/pushtrain/constraints.txt
