# debian:12
FROM debian@sha256:abababababababababababababababababababababababababababababababab AS build
USER root
RUN --mount=type=cache,id=pushtrain-apt-abababababab,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=pushtrain-lists-abababababab,target=/var/lib/apt,sharing=locked \
    rm -f /etc/apt/apt.conf.d/docker-clean && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    g++ libopenmpi-dev make openmpi-bin python3
RUN --mount=type=bind,target=/run/pushtrain \
    --mount=type=cache,id=pushtrain-uv,target=/root/.cache/pushtrain-uv,sharing=shared \
    --mount=type=secret,id=TOKEN,required \
    TOKEN="$(cat /run/secrets/TOKEN)" && export TOKEN \
    && if [ -f /etc/ssl/certs/ca-certificates.crt ]; then export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt; fi \
    && UV_CACHE_DIR=/root/.cache/pushtrain-uv UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1 \
    /bin/sh /run/pushtrain/horovod-wheel /run/pushtrain/uv "$(command -v python3)" tensorflow-cpu==2.15.1 \
    /run/pushtrain/links.txt /tmp/horovod /pushtrain-wheel && rm -rf /tmp/horovod
FROM scratch
COPY --from=build /pushtrain-wheel /
