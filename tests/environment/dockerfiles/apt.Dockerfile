# debian:12
FROM debian@sha256:abababababababababababababababababababababababababababababababab
USER root
RUN --mount=type=cache,id=pushtrain-apt-abababababab,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,id=pushtrain-lists-abababababab,target=/var/lib/apt,sharing=locked \
    rm -f /etc/apt/apt.conf.d/docker-clean && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    git=1:2.39.5-0+deb12u2 libgl1
RUN if command -v python3 >/dev/null && ! command -v python >/dev/null; then \
    ln -s "$(command -v python3)" /usr/local/bin/python; fi
