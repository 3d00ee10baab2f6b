# python:3.11-slim
FROM python@sha256:abababababababababababababababababababababababababababababababab
USER root
RUN --mount=type=bind,target=/run/pushtrain \
    --mount=type=bind,from=mambaorg/micromamba:2.3.0,source=/bin,target=/run/pushtrain-micromamba \
    --mount=type=cache,id=pushtrain-conda,target=/root/.cache/pushtrain-conda,sharing=locked \
    MAMBA_ROOT_PREFIX=/opt/conda-root CONDA_PKGS_DIRS=/root/.cache/pushtrain-conda \
    /run/pushtrain-micromamba/micromamba create --yes --always-copy --prefix /opt/conda \
    --file /run/pushtrain/environment.yml
ENV PATH=/opt/conda/bin:$PATH
