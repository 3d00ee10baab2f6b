import importlib
import json
import logging
import math
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from runner.metrics import Point, Reader, series

# By name, since tensorboard comes without types.
PROTO = "tensorboard.compat.proto"
Event: Any = importlib.import_module(f"{PROTO}.event_pb2").Event
Summary: Any = importlib.import_module(f"{PROTO}.summary_pb2").Summary
TensorProto: Any = importlib.import_module(f"{PROTO}.tensor_pb2").TensorProto
EventFileWriter: Any = importlib.import_module("tensorboard.summary.writer.event_file_writer").EventFileWriter

KERAS = Path(__file__).parent / "data" / "keras"


def write_scalars(folder: Path, *steps: int, tag: str = "loss") -> Path:
    writer = EventFileWriter(str(folder))
    for step in steps:
        value = Summary.Value(tag=tag, simple_value=1 / step)
        writer.add_event(Event(step=step, wall_time=100.0 + step, summary=Summary(value=[value])))
    writer.close()
    (path,) = folder.glob("events.out.tfevents.*")
    return path


def write_value(folder: Path, value: object) -> None:
    writer = EventFileWriter(str(folder))
    writer.add_event(Event(step=1, wall_time=1.0, summary=Summary(value=[value])))
    writer.close()


def write_lines(logs: Path, *lines: str) -> Path:
    path = logs / "metrics.jsonl"
    with path.open("a") as stream:
        stream.write("".join(lines))
    return path


def values(points: tuple[Point, ...]) -> dict[str, tuple[float, ...]]:
    return {name: one.values for name, one in series(points).items()}


def test_a_folder_that_does_not_exist_yet_has_no_points(tmp_path: Path) -> None:
    assert Reader(tmp_path / "logs").poll() == ()


class TestTensorBoard:
    def test_what_keras_wrote_is_named_after_its_subfolders(self) -> None:
        found = series(Reader(KERAS).poll())

        assert {name.split("/")[0] for name in found} == {"train", "validation"}
        assert found["train/epoch_accuracy"].steps == (0, 1, 2)
        assert found["train/epoch_accuracy"].values == pytest.approx((0.604167,) * 3, abs=1e-6)
        assert found["validation/epoch_accuracy"].last == 0.5
        assert found["validation/evaluation_loss_vs_iterations"].steps == (2, 4, 6)

    def test_points_carry_the_step_and_the_time_of_writing(self, tmp_path: Path) -> None:
        write_scalars(tmp_path, 4)

        assert Reader(tmp_path).poll() == (Point(name="loss", step=4, value=0.25, time_s=104.0),)

    def test_folders_named_after_the_moment_are_left_out_of_names(self, tmp_path: Path) -> None:
        write_scalars(tmp_path / "fit" / "20261121-211312" / "train", 1)
        write_scalars(tmp_path / "runs" / "Nov21_21-13-12_host", 1)

        assert set(values(Reader(tmp_path).poll())) == {"fit/train/loss", "runs/loss"}

    def test_nothing_new_gives_no_points_and_what_comes_later_only_the_new_ones(self, tmp_path: Path) -> None:
        reader = Reader(tmp_path)
        write_scalars(tmp_path / "a", 1, 2)

        first, second = reader.poll(), reader.poll()
        write_scalars(tmp_path / "b", 1)

        assert (len(first), second, len(reader.poll())) == (2, (), 1)

    def test_a_record_cut_anywhere_waits_until_it_is_whole(self, tmp_path: Path) -> None:
        whole = write_scalars(tmp_path / "whole", 1, 2).read_bytes()
        reader = Reader(tmp_path / "live")
        (tmp_path / "live").mkdir()

        found = []
        for size in range(len(whole) + 1):
            (tmp_path / "live" / "events.out.tfevents.1").write_bytes(whole[:size])
            found += [point.step for point in reader.poll()]

        assert found == [1, 2]

    def test_a_broken_header_is_one_warning_and_keeps_what_came_before(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = write_scalars(tmp_path, 1)
        path.write_bytes(path.read_bytes() + b"\xff" * 40)
        reader = Reader(tmp_path)

        found = reader.poll()
        path.write_bytes(path.read_bytes() + b"\xff")

        assert [point.step for point in found] == [1]
        assert reader.poll() == ()
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert path.name in caplog.text

    def test_a_scalar_that_does_not_match_its_checksum_is_skipped(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = write_scalars(tmp_path, 1, 2)
        content = bytearray(path.read_bytes())
        at = content.index(struct.pack("<f", 1.0))
        content[at : at + 4] = struct.pack("<f", 7.0)
        path.write_bytes(content)

        assert values(Reader(tmp_path).poll()) == {"loss": (0.5,)}
        assert "checksum" in caplog.text

    def test_a_record_that_is_no_event_is_skipped(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        whole = write_scalars(tmp_path / "whole", 1).read_bytes()
        header = whole[:12]
        (size,) = struct.unpack("<Q", header[:8])
        (tmp_path / "events.out.tfevents.1").write_bytes(header + b"\xff" * size + whole[12 + size :])

        assert set(values(Reader(tmp_path).poll())) == {"loss", "whole/loss"}
        assert "events.out.tfevents.1: a record is not an event" in caplog.text

    @pytest.mark.parametrize(
        ("tensor", "expected"),
        [
            (TensorProto(dtype=1, float_val=[0.5]), 0.5),
            (TensorProto(dtype=2, tensor_content=struct.pack("<d", 0.1)), 0.1),
            (TensorProto(dtype=3, int_val=[7]), 7.0),
            (TensorProto(dtype=9, tensor_content=struct.pack("<q", -(2**40))), -(2.0**40)),
            (TensorProto(dtype=10, bool_val=[True]), 1.0),
            (TensorProto(dtype=19, tensor_content=struct.pack("<e", 0.5)), 0.5),
            (TensorProto(dtype=14, half_val=[0x3F80]), 1.0),
            (TensorProto(dtype=1), 0.0),
        ],
        ids=["float", "double", "int32", "int64", "bool", "half", "bfloat16", "zero"],
    )
    def test_tensors_of_every_number_type_are_scalars(
        self, tmp_path: Path, tensor: object, expected: float
    ) -> None:
        write_value(tmp_path, Summary.Value(tag="x", tensor=tensor))

        assert values(Reader(tmp_path).poll()) == {"x": (expected,)}

    def test_texts_vectors_and_histograms_are_passed_over(self, tmp_path: Path) -> None:
        vector = TensorProto(dtype=1, float_val=[1, 2])
        vector.tensor_shape.dim.add(size=2)
        histogram = Summary.Value(tag="c", tensor=TensorProto(dtype=2, double_val=[1]))
        histogram.metadata.plugin_data.plugin_name = "histograms"
        write_value(tmp_path / "a", Summary.Value(tag="a", tensor=vector))
        write_value(tmp_path / "b", Summary.Value(tag="b", tensor=TensorProto(dtype=7, string_val=[b"text"])))
        write_value(tmp_path / "c", histogram)
        half = TensorProto(dtype=1, tensor_content=b"\0\0")
        write_value(tmp_path / "d", Summary.Value(tag="d", tensor=half))

        assert Reader(tmp_path).poll() == ()

    def test_nan_and_infinity_are_kept(self, tmp_path: Path) -> None:
        write_value(tmp_path / "a", Summary.Value(tag="x", simple_value=math.nan))
        write_value(tmp_path / "b", Summary.Value(tag="x", simple_value=-math.inf))

        found = values(Reader(tmp_path).poll())

        assert math.isnan(found["a/x"][0])
        assert found["b/x"] == (-math.inf,)


class TestLines:
    def test_each_number_of_a_line_is_a_point_and_nested_ones_are_joined_by_slashes(
        self, tmp_path: Path
    ) -> None:
        write_lines(tmp_path, '{"step": 3, "accuracy": 0.5, "val": {"loss": {"mse": 2}}, "ok": true}\n')
        os.utime(tmp_path / "metrics.jsonl", (50, 50))

        assert Reader(tmp_path).poll() == (
            Point(name="accuracy", step=3, value=0.5, time_s=50.0),
            Point(name="val/loss/mse", step=3, value=2.0, time_s=50.0),
            Point(name="ok", step=3, value=1.0, time_s=50.0),
        )

    def test_the_line_number_is_the_step_where_none_is_given(self, tmp_path: Path) -> None:
        reader = Reader(tmp_path)
        write_lines(tmp_path, '{"a": 1}\n', "\n")
        first = reader.poll()
        write_lines(tmp_path, '{"a": 2}\n{"a": 3, "step": 9.0}\n')

        assert series(first + reader.poll())["a"].steps == (1, 3, 9)

    def test_a_half_written_line_waits_for_its_end(self, tmp_path: Path) -> None:
        reader = Reader(tmp_path)
        line = '{"a": 12, "b": {"c": 1}}\n{"a": 5}\n'

        found: list[float] = []
        for character in line:
            write_lines(tmp_path, character)
            found += [point.value for point in reader.poll()]

        assert found == [12.0, 1.0, 5.0]

    def test_a_last_line_without_its_end_is_taken_once_when_it_is_a_whole_object(
        self, tmp_path: Path
    ) -> None:
        reader = Reader(tmp_path)
        write_lines(tmp_path, '{"a": 1}\n{"a": 2}')
        first = reader.poll()
        assert [point.value for point in first] == [1.0, 2.0]
        write_lines(tmp_path, '\n{"a": 3}\n')

        found = series(first + reader.poll())["a"]
        assert (found.steps, found.values) == ((1, 2, 3), (1.0, 2.0, 3.0))

    @pytest.mark.parametrize("line", ["broken", "[1]", "3", '{"a": }', "[" * 100_000, "\x00\xff"])
    def test_a_broken_line_is_skipped_once_with_its_file_and_number(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, line: str
    ) -> None:
        reader = Reader(tmp_path)
        write_lines(tmp_path, '{"a": 1}\n', f"{line}\n", '{"a": 3}\n')

        found = series(reader.poll() + reader.poll())["a"]

        assert found.values == (1.0, 3.0)
        assert [record.getMessage() for record in caplog.records] == [
            "metrics.jsonl:2: not a JSON object, skipped"
        ]

    def test_nan_and_infinity_are_kept_and_what_is_no_number_is_passed_over(self, tmp_path: Path) -> None:
        write_lines(tmp_path, '{"a": NaN, "b": -Infinity, "c": null, "d": "text", "e": [1]}\n')

        found = values(Reader(tmp_path).poll())

        assert set(found) == {"a", "b"}
        assert math.isnan(found["a"][0])

    def test_an_integer_beyond_every_float_is_infinite(self, tmp_path: Path) -> None:
        write_lines(tmp_path, json.dumps({"a": 10**400, "b": -(10**400)}) + "\n")

        assert values(Reader(tmp_path).poll()) == {"a": (math.inf,), "b": (-math.inf,)}

    def test_a_file_written_anew_is_read_from_its_start(self, tmp_path: Path) -> None:
        reader = Reader(tmp_path)
        path = write_lines(tmp_path, '{"a": 1}\n{"a": 2}\n')
        reader.poll()
        path.write_text('{"a": 7}\n')

        assert values(reader.poll()) == {"a": (7.0,)}

    def test_a_file_that_vanished_is_forgotten_and_read_again_when_it_is_back(self, tmp_path: Path) -> None:
        reader = Reader(tmp_path)
        write_lines(tmp_path, '{"a": 1}\n').rename(tmp_path / "aside")
        assert reader.poll() == ()

        shutil.copy(tmp_path / "aside", tmp_path / "metrics.jsonl")

        assert values(reader.poll()) == {"a": (1.0,)}

    def test_links_and_pipes_are_not_opened(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text('{"a": 1}\n')
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        (tmp_path / "a" / "metrics.jsonl").symlink_to(tmp_path / "secret")
        os.mkfifo(tmp_path / "b" / "metrics.jsonl")

        assert Reader(tmp_path).poll() == ()


def test_a_poll_without_news_opens_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    path = write_lines(tmp_path, '{"a": 1}\n')
    reader = Reader(tmp_path)
    reader.poll()
    os.utime(path, ns=(0, path.stat().st_mtime_ns))

    assert reader.poll() == ()
    assert path.stat().st_atime_ns == 0
