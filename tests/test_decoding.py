"""Values of types from JSON, also where several threads are the first to read one."""

from __future__ import annotations

import ast
import subprocess
import sys

import msgspec
import pytest

from runner import decoding
from tests.test_architecture import MODULES

# A process of its own, since it would die of what this is about.
AT_ONCE = """
import sys, threading
import msgspec
from runner import decoding

sys.setswitchinterval(1e-7)
DATA = b'{"x": "q", "y": {"a": "1", "c": ["d"]}, "z": [{"a": "1", "c": ["d"]}]}'

def read(kind, ready):
    ready.wait()
    decoding.from_json(DATA, kind)

for number in range(20):
    inner = msgspec.defstruct(f"Inner{number}", [("a", str), ("c", tuple[str, ...])])
    outer = msgspec.defstruct(f"Outer{number}", [("x", str), ("y", inner), ("z", tuple[inner, ...])])
    ready = threading.Barrier(16)
    threads = [threading.Thread(target=read, args=(outer, ready)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_threads_that_are_the_first_to_read_a_type_at_one_moment_all_read_it() -> None:
    done = subprocess.run([sys.executable, "-c", AT_ONCE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_no_value_of_the_type_is_refused() -> None:
    assert decoding.from_json(b"[1, 2]", tuple[int, ...]) == (1, 2)
    assert decoding.from_objects([1, 2], tuple[int, ...]) == (1, 2)
    with pytest.raises(msgspec.DecodeError):
        decoding.from_json(b"[1", tuple[int, ...])
    with pytest.raises(msgspec.ValidationError):
        decoding.from_objects(["1"], tuple[int, ...])


def test_nobody_else_has_msgspec_read_a_type() -> None:
    directly = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("msgspec.json.decode", "msgspec.json.Decoder", "msgspec.convert")
    }
    assert directly == {"runner.decoding"}
