import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from runner.errors import StoreError
from runner.metrics import Point, Reader, series, tracking_environment
from runner.metrics.mlflow_server import poll_remote


def log(logs: Path, run: str, metric: str, *lines: str, tags: Mapping[str, str] | None = None) -> None:
    """Writes as MLflow 3.17's file store does."""
    folder = logs / "mlruns" / "0" / run
    path = folder / "metrics" / metric
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        stream.write("".join(lines))
    for tag, value in (tags or {}).items():
        (folder / "tags").mkdir(exist_ok=True)
        (folder / "tags" / tag).write_text(value)


class TestEnvironment:
    def test_mlflow_is_sent_to_a_file_store_in_the_logs_and_allowed_to_use_it(self) -> None:
        assert tracking_environment(Path("/run/my logs"), {}) == {
            "MLFLOW_TRACKING_URI": "file:///run/my%20logs/mlruns",
            "MLFLOW_ALLOW_FILE_STORE": "true",
        }

    def test_the_users_own_server_is_left_alone(self) -> None:
        assert tracking_environment(Path("/logs"), {"MLFLOW_TRACKING_URI": "http://mlflow"}) == {}

    @pytest.mark.parametrize(
        ("theirs", "context"), [({}, {}), ({"MLFLOW_RUN_CONTEXT": '{"a": "b"}'}, {"a": "b"})]
    )
    def test_runs_are_tagged_beside_the_users_own_tags(
        self, theirs: Mapping[str, str], context: Mapping[str, str]
    ) -> None:
        added = tracking_environment(Path("/logs"), theirs, run_id="r1")

        assert json.loads(added["MLFLOW_RUN_CONTEXT"]) == {**context, "pushtrain.run": "r1"}

    @pytest.mark.parametrize("theirs", ["nonsense", "[1]"])
    def test_a_context_that_is_no_object_is_replaced(self, theirs: str) -> None:
        added = tracking_environment(Path("/logs"), {"MLFLOW_RUN_CONTEXT": theirs}, run_id="r1")

        assert json.loads(added["MLFLOW_RUN_CONTEXT"]) == {"pushtrain.run": "r1"}


class TestFileStore:
    def test_lines_are_points_with_seconds_and_names_may_have_slashes(self, tmp_path: Path) -> None:
        log(tmp_path, "r", "val/loss", "1795295701540 0.5 0\n", "1795295701541 nan -1\n")

        first, second = Reader(tmp_path).poll()

        assert first == Point(name="val/loss", step=0, value=0.5, time_s=1795295701.54)
        assert (second.step, second.value == second.value) == (-1, False)

    def test_a_half_written_line_waits(self, tmp_path: Path) -> None:
        reader = Reader(tmp_path)
        log(tmp_path, "r", "a", "1000 0.5 1\n1000 0.6 1")
        assert [point.step for point in reader.poll()] == [1]

        log(tmp_path, "r", "a", "2\n")

        assert [point.step for point in reader.poll()] == [12]

    def test_a_retry_goes_on_with_the_curve_and_nested_runs_have_their_own(self, tmp_path: Path) -> None:
        log(tmp_path, "first", "a", "1000 0.1 1\n", tags={"mlflow.runName": "calm-owl"})
        log(tmp_path, "second", "a", "2000 0.2 2\n", tags={"mlflow.runName": "wild-fox"})
        log(
            tmp_path,
            "third",
            "a",
            "1 3 1\n",
            tags={"mlflow.runName": "fold 1", "mlflow.parentRunId": "first"},
        )
        log(tmp_path, "fourth", "a", "1 4 1\n", tags={"mlflow.parentRunId": "first"})

        found = series(Reader(tmp_path).poll())

        assert set(found) == {"a", "fold 1/a", "fourth/a"}
        assert found["a"].values == (0.1, 0.2)

    def test_a_line_that_is_none_of_mlflows_is_a_warning(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        log(tmp_path, "r", "a", "1000 0.5 1\n", "broken\n", "1000 x 1\n", "1000 0.7 3 model dataset digest\n")

        assert [point.value for point in Reader(tmp_path).poll()] == [0.5, 0.7]
        assert [record.getMessage() for record in caplog.records] == [
            "mlruns/0/r/metrics/a:2: not a metric of MLflow, skipped",
            "mlruns/0/r/metrics/a:3: not a metric of MLflow, skipped",
        ]

    def test_artifacts_in_the_file_store_are_not_taken_for_metrics(self, tmp_path: Path) -> None:
        log(tmp_path, "r", "../artifacts/metrics.jsonl", '{"a": 1}\n')

        assert Reader(tmp_path).poll() == ()


ANSWERS = {
    ("experiments/search", ""): {
        "experiments": [{"experiment_id": "0", "name": "Default"}],
        "next_page_token": "e",
    },
    ("experiments/search", "e"): {"experiments": [{"experiment_id": "7"}]},
    ("runs/search", ""): {
        "runs": [
            {
                "info": {"run_id": "r", "run_name": "owl"},
                "data": {"metrics": [{"key": "a", "value": 0.2, "timestamp": 2000, "step": 2}]},
            },
        ],
        "next_page_token": "p",
    },
    ("runs/search", "p"): {
        "runs": [
            {
                "info": {"run_id": "n", "run_name": "fold 1"},
                "data": {
                    "metrics": [{"key": "b", "value": "NaN", "timestamp": 1}],
                    "tags": [{"key": "mlflow.parentRunId", "value": "r"}],
                },
            }
        ]
    },
    ("metrics/get-history", "r a "): {
        "metrics": [{"key": "a", "value": 0.1, "timestamp": 1000, "step": 1}],
        "next_page_token": "m",
    },
    ("metrics/get-history", "r a m"): {"metrics": [{"key": "a", "value": 0.2, "timestamp": 2000, "step": 2}]},
    ("metrics/get-history", "n b "): {"metrics": [{"key": "b", "value": "Infinity", "timestamp": 1}]},
}


class MLflow(BaseHTTPRequestHandler):
    """Answers as `mlflow server` 3.17 did, in pages of one."""

    seen: list[tuple[str, object]] = []
    signed: list[str | None] = []

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.reply(query, query.get("page_token", ""))

    def do_GET(self) -> None:
        query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        self.reply(query, f"{query['run_id']} {query['metric_key']} {query.get('page_token', '')}")

    def reply(self, query: object, page: str) -> None:
        path = urlsplit(self.path).path.removeprefix("/api/2.0/mlflow/")
        self.seen.append((path, query))
        self.signed.append(self.headers["Authorization"])
        answer = ANSWERS.get((path, page))
        self.send_response(200 if answer else 404)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the tests' output clean."""


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class TestServer:
    def test_the_runs_that_carry_the_tag_are_read_page_by_page(self) -> None:
        MLflow.seen.clear()
        with served(MLflow) as uri:
            found = series(poll_remote(f"{uri}/", "r1", environ={}))

        assert {name: (one.steps, one.values) for name, one in found.items()} == {
            "a": ((1, 2), (0.1, 0.2)),
            "fold 1/b": ((0,), (float("inf"),)),
        }
        search = next(query for path, query in MLflow.seen if path == "runs/search")
        assert isinstance(search, dict)
        assert search["filter"] == "tags.`pushtrain.run` = 'r1'"
        assert search["experiment_ids"] == ["0", "7"]

    @pytest.mark.parametrize(
        ("environ", "header"),
        [
            ({}, None),
            ({"MLFLOW_TRACKING_TOKEN": "t"}, "Bearer t"),
            ({"MLFLOW_TRACKING_USERNAME": "u", "MLFLOW_TRACKING_PASSWORD": "p"}, "Basic dTpw"),
        ],
    )
    def test_it_signs_in_as_mlflow_does(self, environ: Mapping[str, str], header: str | None) -> None:
        MLflow.signed.clear()
        with served(MLflow) as uri:
            poll_remote(uri, "r1", environ=environ)

        assert set(MLflow.signed) == {header}

    def test_a_server_that_is_not_mlflow_is_an_error_without_the_password(self) -> None:
        with served(MLflow) as uri, pytest.raises(StoreError, match="404") as caught:
            poll_remote(uri.replace("//", "//me:secret@") + "/other", "r1", environ={})

        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("uri", ["nonsense", "http://127.0.0.1:1"])
    def test_a_server_that_cannot_be_reached_is_an_error(self, uri: str) -> None:
        with pytest.raises(StoreError, match="cannot be read from MLflow"):
            poll_remote(uri, "r1", environ={})
