"""Both stores against a dictionary: any order of calls gives the same answers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from runner.errors import Conflict, NotFound
from runner.store import Store, open_store
from tests.fixtures.s3 import make_bucket

OBJECTS = st.sampled_from(["a", "runs/a", "runs/b/c"])
STREAMS = st.sampled_from(["log", "runs/log"])
CONTENT = st.binary(max_size=6)


def outcome(call: Callable[[], object]) -> object:
    """What a call returned, or the class of what it raised."""
    try:
        return call()
    except (Conflict, NotFound) as error:
        return type(error)


class Stores(RuleBasedStateMachine):
    """Rules act on both stores and on the model, and compare."""

    endpoint = ""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        place = f"s3://{make_bucket(self.endpoint)}/p?endpoint={self.endpoint}&region=us-east-1&attempts=1"
        self.stores: list[Store] = [open_store(folder), open_store(place)]
        self.model: dict[str, bytes] = {}

    def teardown(self) -> None:
        self.stack.close()

    def expect(self, wanted: object, call: Callable[[Store], object]) -> None:
        assert [outcome(partial(call, store)) for store in self.stores] == [wanted, wanted]

    @rule(key=OBJECTS, data=CONTENT)
    def write(self, key: str, data: bytes) -> None:
        self.model[key] = data
        self.expect(None, lambda store: store.write(key, data) and None)

    @rule(key=OBJECTS, data=CONTENT)
    def create(self, key: str, data: bytes) -> None:
        wanted = Conflict if key in self.model else None
        self.model.setdefault(key, data)
        self.expect(wanted, lambda store: store.create(key, data) and None)

    @rule(key=OBJECTS, old=CONTENT, data=CONTENT)
    def replace_after_a_write_of_another(self, key: str, old: bytes, data: bytes) -> None:
        if key not in self.model:
            return
        wanted = None if self.model[key] == old else Conflict
        for store in self.stores:
            current = store.read(key)
            version = store.write(key, old)
            store.write(key, current)
            assert outcome(lambda: store.replace(key, data, version=version) and None) == wanted  # noqa: B023
        if wanted is None:
            self.model[key] = data

    @rule(key=STREAMS, offset=st.integers(0, 8), size=st.integers(0, 8))
    def append(self, key: str, offset: int, size: int) -> None:
        stream, data = self.model.get(key, b""), bytes(range(offset, offset + size))
        wanted = Conflict if data and offset > len(stream) else None
        if data and wanted is None:
            self.model[key] = stream + data[len(stream) - offset :]
        self.expect(wanted, lambda store: store.append(key, data, offset=offset))

    @rule(key=st.one_of(OBJECTS, STREAMS))
    def delete(self, key: str) -> None:
        self.model.pop(key, None)
        self.expect(None, lambda store: store.delete(key))

    @rule(key=st.one_of(OBJECTS, STREAMS))
    def read(self, key: str) -> None:
        self.expect(self.model.get(key, NotFound), lambda store: store.read(key))

    @rule(key=STREAMS, offset=st.integers(0, 12))
    def tail(self, key: str, offset: int) -> None:
        self.expect(self.model.get(key, b"")[offset:], lambda store: store.tail(key, offset=offset))

    @rule(prefix=st.sampled_from(["", "runs", "runs/", "runs/b/", "l", "none/"]))
    def keys(self, prefix: str) -> None:
        wanted = sorted(key for key in self.model if key.startswith(prefix))
        self.expect(wanted, lambda store: list(store.keys(prefix)))

    @rule(folder=st.sampled_from(["", "runs", "runs/b"]))
    def children(self, folder: str) -> None:
        below = [
            key.removeprefix(f"{folder}/") for key in self.model if not folder or key.startswith(f"{folder}/")
        ]
        self.expect(
            sorted({key.partition("/")[0] for key in below}), lambda store: list(store.children(folder))
        )


@pytest.mark.usefixtures("s3_credentials")
def test_both_stores_answer_as_a_dictionary_would(s3_endpoint: str) -> None:
    Stores.endpoint = s3_endpoint
    how = settings(
        max_examples=10, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Stores, settings=how)
