"""Machines by commands of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import EngineError
from runner.providers import Place, Provider, provider, settings

SCRIPT = r"""#!/bin/sh
cd "$(dirname "$0")" && touch on
verb=$1; shift
echo "$verb $* $PUSHTRAIN_HEAD $PUSHTRAIN_TOKEN_FILE $PUSHTRAIN_ALONE" >>asked
for name; do
  case $verb in
    start) [ "$name" = a-3 ] && { echo "no room for $name" >&2; exit 1; }; echo "$name 10.0.0.1" | tee -a on ;;
    stop) sed -i "/^$name /d" on ;;
  esac
done
[ "$verb" != list ] || cat on
[ ! -e broken ] || { echo "no answer" >&2; exit 3; }
"""


@pytest.fixture
def machines(tmp_path: Path) -> Provider:
    script = tmp_path / "machines"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    read = settings.parse(
        f"alone: 90s\nhosts: {{a: {{cpus: 1, memory: 1GiB, max_hosts: 3}}}}\n"
        f"command: {{start: {script} start, stop: {script} stop, list: {script} list}}"
    )
    place = Place(cluster="c", head="h", address="10.0.0.9", token=Path("/token"), state=tmp_path)
    return provider(read, place)


def names(machines: Provider) -> list[str]:
    return [machine.name for machine in machines.running()]


def test_a_machine_that_runs_is_not_started_again(machines: Provider, tmp_path: Path) -> None:
    assert [each.address for each in machines.start(["a-1"]).machines] == ["10.0.0.1"]
    again = machines.start(["a-1", "a-2"])
    assert [each.name for each in again.machines] == ["a-1", "a-2"]
    started = [line for line in (tmp_path / "asked").read_text().splitlines() if line.startswith("start")]
    assert started == ["start a-1 10.0.0.9 /token 90", "start a-2 10.0.0.9 /token 90"]


def test_the_reason_of_a_machine_that_does_not_start_is_told(machines: Provider) -> None:
    started = machines.start(["a-2", "a-3"])
    assert [each.name for each in started.machines] == ["a-2"]
    assert started.refused == {"a-3": "no room for a-3"}


def test_stopping_is_safe_to_repeat(machines: Provider) -> None:
    machines.start(["a-1", "a-2"])
    machines.stop(["a-1"])
    machines.stop(["a-1"])
    machines.stop([])
    assert names(machines) == ["a-2"]


def test_no_answer_is_not_taken_for_no_machine(machines: Provider, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    with pytest.raises(EngineError, match="ended with 3: no answer"):
        machines.running()
