# python:3.11-slim
FROM python@sha256:abababababababababababababababababababababababababababababababab
USER root
RUN if command -v python3 >/dev/null && ! command -v python >/dev/null; then \
    ln -s "$(command -v python3)" /usr/local/bin/python; fi
