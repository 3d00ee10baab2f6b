"""An MLflow server that the script logged to -> points, over its REST API.

The API: https://mlflow.org/docs/latest/api_reference/rest-api.html. Import this late: httpx is slow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from runner.errors import StoreError
from runner.metrics.mlflow import PARENT_TAG, RUN_TAG
from runner.metrics.points import Point

_TIMEOUT_S = 30.0
_PAGE = 1000
_CREDENTIALS = re.compile(r"//[^/@\s]*@")


class _Answer(BaseModel):
    # What another's service answers may grow.
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Experiment(_Answer):
    experiment_id: str


class _Experiments(_Answer):
    experiments: tuple[_Experiment, ...] = ()
    next_page_token: str = ""


class _Tag(_Answer):
    key: str
    value: str = ""


class _Metric(_Answer):
    key: str
    value: float
    timestamp: int
    step: int = 0


class _RunInfo(_Answer):
    run_id: str
    run_name: str = ""


class _RunData(_Answer):
    metrics: tuple[_Metric, ...] = ()
    tags: tuple[_Tag, ...] = ()


class _Run(_Answer):
    info: _RunInfo
    data: _RunData = _RunData()


class _Runs(_Answer):
    runs: tuple[_Run, ...] = ()
    next_page_token: str = ""


class _History(_Answer):
    metrics: tuple[_Metric, ...] = ()
    next_page_token: str = ""


def poll_remote(uri: str, run_id: str, *, environ: Mapping[str, str]) -> tuple[Point, ...]:
    """All points that this run's scripts logged to the MLflow server at `uri`, named as in the file store.

    The server's runs are found by the tag of `tracking_environment`, earliest first. Signs in as MLflow
    does, by MLFLOW_TRACKING_TOKEN or _USERNAME and _PASSWORD of `environ`. Blocks for half a minute at most
    per request. Raises StoreError where the server does not answer, or not as MLflow does. Safe to repeat.
    """
    try:
        with _client(uri, environ) as client:
            runs = _runs(client, run_id)
            return tuple(point for run in runs for point in _run_points(client, run))
    except (httpx.HTTPError, httpx.InvalidURL, ValidationError) as error:
        reason = str(error).partition("\n")[0]
        message = f"the metrics cannot be read from MLflow at {uri}: {type(error).__name__}: {reason}"
        tip = "check MLFLOW_TRACKING_URI and its credentials"
        raise StoreError(_CREDENTIALS.sub("//", message), tip=tip) from error


def _client(uri: str, environ: Mapping[str, str]) -> httpx.Client:
    headers, auth = {}, None
    if token := environ.get("MLFLOW_TRACKING_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    elif user := environ.get("MLFLOW_TRACKING_USERNAME"):
        auth = httpx.BasicAuth(user, environ.get("MLFLOW_TRACKING_PASSWORD", ""))
    base = uri.rstrip("/") + "/api/2.0/mlflow/"
    return httpx.Client(base_url=base, headers=headers, auth=auth, timeout=_TIMEOUT_S)


def _runs(client: httpx.Client, run_id: str) -> Iterator[_Run]:
    experiments = list(_experiments(client))
    token = ""
    while experiments:
        query = {
            "experiment_ids": experiments,
            "filter": f"tags.`{RUN_TAG}` = '{run_id}'",
            "order_by": ["attributes.start_time ASC"],
            "max_results": _PAGE,
        }
        answer = client.post("runs/search", json=query | ({"page_token": token} if token else {}))
        page = _Runs.model_validate_json(answer.raise_for_status().content)
        yield from page.runs
        token = page.next_page_token
        if not token:
            return


def _experiments(client: httpx.Client) -> Iterator[str]:
    token = ""
    while True:
        query = {"max_results": _PAGE} | ({"page_token": token} if token else {})
        answer = client.post("experiments/search", json=query)
        page = _Experiments.model_validate_json(answer.raise_for_status().content)
        yield from (experiment.experiment_id for experiment in page.experiments)
        token = page.next_page_token
        if not token:
            return


def _run_points(client: httpx.Client, run: _Run) -> Iterator[Point]:
    nested = any(tag.key == PARENT_TAG for tag in run.data.tags)
    prefix = f"{run.info.run_name or run.info.run_id}/" if nested else ""
    for metric in run.data.metrics:
        for value in _history(client, run.info.run_id, metric.key):
            time_s = value.timestamp / 1000
            yield Point(name=prefix + metric.key, step=value.step, value=value.value, time_s=time_s)


def _history(client: httpx.Client, run: str, key: str) -> Iterator[_Metric]:
    token = ""
    while True:
        query = {"run_id": run, "metric_key": key} | ({"page_token": token} if token else {})
        answer = client.get("metrics/get-history", params=query)
        page = _History.model_validate_json(answer.raise_for_status().content)
        yield from page.metrics
        token = page.next_page_token
        if not token:
            return
