# What the container action runs in: Python, git, the command line of Docker, and Pushtrain with its locked packages.
# Any base with Debian's packages and a Python from 3.11 on will do.
ARG BASE=python:3.11-slim-trixie
FROM ${BASE}

# Debian has the command line apart from the daemon since 13, and there it builds through buildx.
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

COPY container/entrypoint.py container/inside.py /opt/pushtrain/
WORKDIR /
ENV PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["/opt/pushtrain/environment/bin/python", "-P", "/opt/pushtrain/entrypoint.py"]
