# Two images of one version: `agent` is a host of a fleet (docs/operations.md), the last one what the container action
# runs in. Any base with Debian's packages and a Python from 3.11 on will do.
ARG BASE=python:3.11-slim-trixie
FROM ${BASE} AS pushtrain

# Debian has the command line of Docker apart from the daemon since 13, and there it builds through buildx.
RUN apt-get update \
  && if apt-cache show docker-cli >/dev/null 2>&1; then client="docker-cli docker-buildx"; else client=docker.io; fi \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates git $client \
  && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/pushtrain/source
COPY pyproject.toml uv.lock ./
COPY scripts scripts
COPY runner runner
# The Python and the authorities that are there are the ones to use: none are fetched.
RUN export RUNNER_TOOL_CACHE=/opt UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=1 UV_NO_CACHE=1 \
  && environment=$(bash scripts/action/environment) \
  && ln -s "$environment" /opt/pushtrain/environment \
  && rm -rf /root/.cache /var/lib/apt/lists/*
ENV PYTHONDONTWRITEBYTECODE=1
WORKDIR /

FROM pushtrain AS agent
# A key of munge that is made here would be known to everybody who has the image.
RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    docker-registry iproute2 munge slurm-client slurmctld slurmd tini \
  && rm -rf /var/lib/apt/lists/* /etc/munge/munge.key \
  && mkdir -p /etc/slurm && ln -s /run/pushtrain/slurm.conf /etc/slurm/slurm.conf
RUN printf '#!/bin/sh\nexec /opt/pushtrain/environment/bin/python -P -m runner.cli "$@"\n' >/usr/local/bin/pushtrain \
  && chmod 755 /usr/local/bin/pushtrain
COPY container/agent /opt/pushtrain/agent
# Docker's daemon is told paths of the host, so this folder has to have the same path there.
ENV PUSHTRAIN_HOME=/var/lib/pushtrain/home NVIDIA_DRIVER_CAPABILITIES=compute,utility
# What lost its parent is waited for also where the host's processes are seen (--pid host).
ENTRYPOINT ["tini", "-s", "-g", "--", "sh", "/opt/pushtrain/agent"]

FROM pushtrain AS action
COPY container/entrypoint.py container/inside.py /opt/pushtrain/
ENTRYPOINT ["/opt/pushtrain/environment/bin/python", "-P", "/opt/pushtrain/entrypoint.py"]
