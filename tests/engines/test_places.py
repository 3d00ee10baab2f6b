"""Where a run is kept: in S3, and on disks that are full."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.store import open_store
from tests.engines.project import Project, wait_for
from tests.fixtures.s3 import s3_credentials, s3_endpoint, s3_uri

__all__ = ["s3_credentials", "s3_endpoint", "s3_uri"]


def test_a_whole_run_is_kept_in_s3(s3_uri: str, local_project: Project) -> None:
    local_project.store_uri = s3_uri
    local_project.write(
        """
        open("outputs/model", "wb").write(b"m" * 3_000_000)
        open("logs/metrics.jsonl", "w").write('{"step": 1, "accuracy": 0.9}\\n')
        print("trained", flush=True)
        """,
        metrics={"primary": "accuracy"},
        release={"model": "small", "path": "outputs/model", "framework": "none"},
    )

    done = local_project.pushtrain("run", "--store", s3_uri)
    again = local_project.pushtrain("run", "--store", s3_uri)

    assert done.code == 0, done.output
    assert "trained" in done.output
    assert local_project.run.release == "small@1.0.0"
    assert local_project.outputs()["outputs/model"] == b"m" * 3_000_000
    assert "did just this and succeeded" in again.output
    assert not (local_project.home / "store").exists()


def test_cancelling_reaches_a_run_that_is_kept_in_s3(s3_uri: str, local_project: Project) -> None:
    local_project.store_uri = s3_uri
    local_project.write("print('ready', flush=True); hold()")
    command = local_project.start("run")
    local_project.until_prints("ready")

    command.interrupt()
    done = command.finish()

    assert done.code == 130, done.output
    assert local_project.run.state == "cancelled"


@contextlib.contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_store_that_is_full_leaves_nothing_half_written(local_project: Project, tmp_path: Path) -> None:
    with _small_disk(tmp_path / "disk", "4m") as disk:
        local_project.store_uri = str(disk)
        local_project.write("open('outputs/model', 'wb').write(os.urandom(8 << 20))")

        done = local_project.pushtrain("run")

        assert done.code == 72, done.output
        assert done.output.count("error:") == 1, done.output
        assert "the disk is full (No space left on device)" in done.output
        assert "Traceback" not in done.output + local_project.told()
        assert not list((disk / ".tmp").iterdir())
        store = open_store(str(disk))
        assert all(store.read_blob(blob.digest) for blob in store.blobs())

        # With room made, what the training left is taken up: it does not train again.
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        resumed = local_project.pushtrain("resume", "last")
        assert resumed.code == 0, resumed.output
        assert len(local_project.run.attempts) == 1
        assert len(local_project.outputs()["outputs/model"]) == 8 << 20
        wait_for(lambda: not local_project.leftovers(), what="nothing of an ended run left")


def test_a_store_too_full_for_the_log_does_not_end_the_training(
    local_project: Project, tmp_path: Path
) -> None:
    with _small_disk(tmp_path / "disk", "4m") as disk:
        local_project.store_uri = str(disk)
        local_project.write(
            """
            for number in range(100_000):
                print(number, "." * 50)
            open("outputs/done", "w").write("yes")
            print("end", flush=True)
            """
        )

        command = local_project.start("run")
        local_project.until("running")
        wait_for(
            lambda: "log not stored" in local_project.told(), what="a full store", told=local_project.told
        )
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        ended = command.finish()
        if ended.code:
            ended = local_project.pushtrain("resume", "last")

        assert ended.code == 0, ended.output
        assert [attempt.outcome for attempt in local_project.run.attempts] == ["succeeded"]
        assert local_project.outputs() == {"outputs/done": b"yes"}
        wait_for(lambda: not local_project.leftovers(), what="nothing of an ended run left")


def test_a_disk_that_the_training_fills_is_named(local_project: Project, tmp_path: Path) -> None:
    with _small_disk(tmp_path / "disk", "16m") as disk:
        local_project.home = disk / "home"
        local_project.store_uri = str(tmp_path / "store")
        local_project.write("open('outputs/model', 'wb').write(bytes(32 << 20))")

        done = local_project.pushtrain("run")

        assert done.code == 1, done.output
        assert re.search(r"rank 0 ended with exit code 1: the disk of \S+ is full", done.output)
        local_project.end()
        assert "Traceback" not in "".join(p.read_text() for p in disk.glob("home/scratch/*/*.log"))


def test_no_room_even_for_the_plan_is_one_error(local_project: Project, tmp_path: Path) -> None:
    with _small_disk(tmp_path / "disk", "64k") as disk:
        local_project.store_uri = str(disk)
        (tmp_path / "repository").mkdir()
        (tmp_path / "repository/big").write_bytes(os.urandom(1 << 20))
        local_project.write("pass")

        done = local_project.pushtrain("run")

        assert done.code == 74, done.output
        assert done.output.count("error:") == 1, done.output
        assert "Traceback" not in done.output
        assert local_project.run_ids == ()
        assert json.loads(local_project.pushtrain("plan", "--json").output)["name"] == "job"
