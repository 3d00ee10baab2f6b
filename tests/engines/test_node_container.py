"""Nodes whose ranks a launcher starts, on a real Docker: one container for all, commands in it, signals, stacks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner.errors import EngineError
from runner.host import gang_folder
from runner.host.containers import ContainerRanks, end_containers, owner
from runner.host.job import ContainerLimits, Job
from runner.host.ranks import Exit
from runner.launch import Process
from tests.engines.project import wait_for
from tests.services.dockerd import DockerEngine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

MARK = "20261122-000000-abcdef:0:1:"


@dataclass
class Output:
    """What a rank printed so far."""

    data: bytearray = field(default_factory=bytearray)

    def feed(self, chunk: bytes) -> None:
        self.data += chunk

    def until(self, text: str) -> str:
        wait_for(lambda: text.encode() in self.data, what=f"{text!r} printed", told=lambda: str(self.data))
        return self.data.decode()


@dataclass
class Workplace:
    """Nodes of one run; `ranks(…)` makes those of a Job."""

    folder: Path
    image: str
    engine: DockerEngine
    made: list[ContainerRanks] = field(default_factory=list)

    def ranks(self, *processes: Process, **settings: Any) -> ContainerRanks:
        job = self.job(*processes, **settings)
        job.work.mkdir(parents=True, exist_ok=True)
        if job.is_gang:
            gang_folder.make(job)
        for path in (job.work, *(job.gang_folder.rglob("*") if job.is_gang else ())):
            os.chown(path, *owner())
        self.made.append(ContainerRanks(job, {}))
        self.made[-1].join()
        return self.made[-1]

    def job(self, *processes: Process, **settings: Any) -> Job:
        chosen: Mapping[str, Any] = {
            "run_id": "20261122-000000-abcdef",
            "mark": MARK,
            "attempt": 1,
            "node_rank": 0,
            "hostnames": ("node-0",),
            "store": "",
            "cache": "",
            "scratch": str(self.folder / f"node-{settings.get('node_rank', 0)}"),
            "tree": "",
            "venv": None,
            "image": self.image,
            "network": None,
            "limits": ContainerLimits(cpus=None, memory_bytes=None, shm_bytes=64 << 20),
            "gpus": (),
            "datasets": (),
            "outputs": "outputs",
            "logs": "logs",
            "checkpoints": None,
            "resume": False,
            "processes": processes,
            "env": {"CHOSEN": (("text", "by train.yml"),)},
            "facts": {},
            "secrets": {"TOKEN": "s3cret"},
            "log_keys": {},
            "metrics_key": None,
            "live_prefix": "",
            "world_size": sum(process.kind != "launcher" for process in processes),
            **settings,
        }
        return Job(**chosen)

    def containers(self) -> list[str]:
        return self.engine.docker("ps", "-a", "--format", "{{.Names}}").split()


@pytest.fixture
def workplace(tmp_path: Path, docker_engine: DockerEngine, base_image: str) -> Iterator[Workplace]:
    tmp_path.chmod(0o755)
    made = Workplace(folder=tmp_path, image=base_image, engine=docker_engine)
    try:
        yield made
    finally:
        for ranks in made.made:
            ranks.close()
        for network in docker_engine.docker("network", "ls", "-q", "--filter", "label=pushtrain.run").split():
            docker_engine.docker("network", "rm", network)
    assert made.containers() == []


def rank(number: int, script: str = "", *, kind: Any = "launched", node: int = 0) -> Process:
    argv = ("python3", "-u", "-c", script) if kind == "direct" else ("/bin/sh", "-c", script)
    env = {"PUSHTRAIN_RANK": str(number), "PUSHTRAIN_NODE_RANK": str(node)}
    return Process(rank=number, local_rank=number, node_rank=node, argv=argv, env=env, kind=kind)


def launcher(script: str) -> Process:
    return Process(rank=2, local_rank=0, node_rank=0, argv=("/bin/sh", "-c", script), kind="launcher")


def ended(started: Any) -> Exit:
    exit_: Exit = started.wait()
    started.close()
    return exit_


def read(command: Any) -> tuple[bytes, bytes, int]:
    streams = {1: b"", 2: b""}
    for stream, data in command.read_streams():
        streams[stream] += data
    return streams[1], streams[2], command.wait()


def line(streams: Iterator[tuple[int, bytes]]) -> str:
    """The next line that is printed."""
    said = b""
    while not said.endswith(b"\n"):
        said += next(streams)[1]
    return said.decode().strip()


def test_a_launcher_runs_in_the_container_of_its_node_with_all_that_a_rank_has(workplace: Workplace) -> None:
    output = Output()
    said = "hostname; pwd; id -u; "
    said += "echo $CHOSEN $TOKEN $PUSHTRAIN_GANG of ${PUSHTRAIN_RANK-none}; command -v pushtrain-rank"
    process = launcher(f"{said}; touch mine; ls /pushtrain/ranks; exit 7")
    ranks = workplace.ranks(rank(0), rank(1), process)

    started = ranks.start(process, output.feed)

    assert ended(started) == Exit(code=7)
    words = "node-0 /workspace 1000 by train.yml s3cret /pushtrain of none /pushtrain/bin/pushtrain-rank 0 1"
    assert output.data.decode().split() == words.split()
    assert (workplace.folder / "node-0/work/mine").stat().st_uid == 1000
    assert workplace.containers() == ["pushtrain-20261122-000000-abcdef-a1-n0"]


def test_a_node_has_the_limits_of_all_its_ranks(workplace: Workplace) -> None:
    limits = ContainerLimits(cpus=0.5, memory_bytes=128 << 20, shm_bytes=32 << 20, pids=100)
    workplace.ranks(rank(0), rank(1), launcher("true"), limits=limits)

    (name,) = workplace.containers()
    settings = (
        "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.HostConfig.ShmSize}}"
    )
    told = workplace.engine.docker("inspect", "-f", settings, name)

    assert told.split() == [str(256 << 20), str(10**9), "200", str(32 << 20)]


def test_a_command_has_its_input_both_outputs_and_its_exit_code(workplace: Workplace) -> None:
    ranks = workplace.ranks(rank(0))

    command = ranks.command("echo $CHOSEN $PUSHTRAIN_RANK; cat; echo wrong >&2; exit 9")
    command.write(b"one\n")
    command.write(b"x" * 300_000)
    command.close_stdin()

    assert read(command) == (b"by train.yml 0\none\n" + b"x" * 300_000, b"wrong\n", 9)


def test_a_command_that_ends_at_once_loses_nothing_of_what_it_printed(workplace: Workplace) -> None:
    ranks = workplace.ranks(rank(0))

    told = [read(ranks.command("printf out; printf err >&2; exit 3")) for _ in range(20)]

    assert told == [(b"out", b"err", 3)] * 20


def test_a_command_that_is_killed_takes_along_what_it_started_in_groups_of_its_own(
    workplace: Workplace,
) -> None:
    ranks = workplace.ranks(rank(0))
    # As orted does with ranks.
    child = "import os, time; os.setpgid(0, 0); print('ready', flush=True); time.sleep(1000)"
    command = ranks.command(f'python3 -c "{child}" & wait')
    assert line(command.read_streams()) == "ready"

    command.kill()

    assert command.wait() == 137
    wait_for(lambda: b"setpgid" not in _running(ranks), what="its child gone")


def _running(ranks: ContainerRanks) -> bytes:
    return read(ranks.command("cat /proc/[0-9]*/cmdline"))[0]


def test_a_launcher_gets_a_signal_and_its_group_too(workplace: Workplace) -> None:
    output = Output()
    inner = "trap 'echo child' TERM; echo ready; sleep 1000 & wait"
    process = launcher(f"trap 'sleep 0.3; echo told; exit 5' TERM; sh -c \"{inner}\" & wait")
    ranks = workplace.ranks(rank(0), process)
    started = ranks.start(process, output.feed)
    waiting = _in_thread(started.wait)
    output.until("ready")

    started.signal(signal.SIGTERM)

    assert waiting() == Exit(code=5)
    assert sorted(output.data.decode().split()) == ["child", "ready", "told"]


def test_a_launcher_that_is_killed_says_so(workplace: Workplace) -> None:
    output = Output()
    process = launcher("trap '' TERM; echo ready; while :; do sleep 1; done")
    ranks = workplace.ranks(rank(0), process)
    started = ranks.start(process, output.feed)
    waiting = _in_thread(started.wait)
    output.until("ready")

    started.signal(signal.SIGTERM)
    started.signal(signal.SIGKILL)

    assert waiting() == Exit(code=137, signal="SIGKILL")
    started.signal(signal.SIGKILL)


def test_a_signal_reaches_the_group_that_a_rank_named(workplace: Workplace) -> None:
    ranks = workplace.ranks(rank(0))
    command = ranks.command("setsid sh -c 'echo $$; trap \"echo saved; exit 4\" TERM; sleep 1000 & wait'")
    streams = command.read_streams()
    pid = int(line(streams))

    ranks.signal(pid, signal.SIGTERM)

    assert (b"".join(data for _, data in streams), command.wait()) == (b"saved\n", 4)
    ranks.signal(pid, signal.SIGKILL)


def test_signals_go_on_when_the_shell_that_sends_them_was_killed(workplace: Workplace) -> None:
    ranks = workplace.ranks(rank(0))
    for _ in range(2):
        command = ranks.command("echo ready; exec sleep 1000")
        assert line(command.read_streams()) == "ready"
        command.kill()
        assert command.wait() == 137
        text = 'for p in /proc/[0-9]*; do grep -q "while read" $p/cmdline && kill -9 ${p#/proc/}; done'
        read(ranks.command(text))


def test_what_the_kernel_ends_for_memory_is_counted(workplace: Workplace) -> None:
    limits = ContainerLimits(cpus=None, memory_bytes=64 << 20, shm_bytes=32 << 20)
    ranks = workplace.ranks(rank(0), limits=limits)
    before = ranks.kernel_kills()

    _, _, code = read(ranks.command("python3 -c 'b = [bytearray(1 << 20) for _ in range(400)]'"))

    assert (before, code, ranks.kernel_kills()) == (0, 137, 1)


MAY_WRITE = """
for place in . bin ranks ranks/0 ranks/1 calls hosts; do
  test -w /pushtrain/$place && echo $place
done
mv /pushtrain/ranks/0 /pushtrain/elsewhere 2>/dev/null && echo moved
"""


def test_ranks_write_where_they_report_and_nowhere_else_in_the_gang_folder(workplace: Workplace) -> None:
    ranks = workplace.ranks(rank(0), rank(1))
    assert read(ranks.command(MAY_WRITE))[0].split() == [b"ranks/0", b"ranks/1", b"calls"]
    ranks.close()

    script = f"import subprocess; subprocess.run(['sh', '-c', {MAY_WRITE!r}])"
    processes = [rank(number, script, kind="direct") for number in range(2)]
    ranks, output = workplace.ranks(*processes), Output()
    assert ended(ranks.start(processes[1], output.feed)).code == 0
    assert output.data.split() == [b"ranks/1"]


STUCK = "import time\ndef stuck():\n    print('ready')\n    time.sleep(1000)\nstuck()"


def test_the_stacks_of_launched_ranks_are_each_their_own(workplace: Workplace) -> None:
    ranks = workplace.ranks(rank(0), rank(1))
    pids = {}
    for number, name in enumerate(("stuck", "waiting")):
        script = STUCK.replace("stuck", name)
        (workplace.folder / f"node-0/work/{name}.py").write_text(script)
        command = ranks.command(f"echo $$; exec sh -c 'python3 -u {name}.py; true'")
        streams = command.read_streams()
        pids[number] = int(line(streams))
        assert line(streams) == "ready"

    stacks = ranks.stacks(pids)

    assert ("stuck (stuck.py:4)" in stacks[0], "waiting (waiting.py:4)" in stacks[0]) == (True, False)
    assert ("stuck (stuck.py:4)" in stacks[1], "waiting (waiting.py:4)" in stacks[1]) == (False, True)


def test_the_stacks_of_ranks_in_containers_of_their_own(workplace: Workplace) -> None:
    processes = [rank(number, STUCK, kind="direct") for number in range(2)]
    ranks = workplace.ranks(*processes, rank(2, "exit(3)", kind="direct"))
    outputs = [Output() for _ in processes]
    started = [ranks.start(process, output.feed) for process, output in zip(processes, outputs, strict=True)]
    waiting = [_in_thread(each.wait) for each in started]
    for output in outputs:
        output.until("ready")

    stacks = ranks.stacks({0: None, 1: None})

    assert all("stuck (<string>:4)" in stacks[number] for number in range(2)), stacks
    assert not [name for name in workplace.containers() if "pushtrain" not in name]
    for each in started:
        each.signal(signal.SIGKILL)
    assert [wait() for wait in waiting] == [Exit(code=137, signal="SIGKILL")] * 2


def test_nodes_of_launchers_reach_each_other_by_name(workplace: Workplace) -> None:
    settings = {"network": "pushtrain-test-nodes", "hostnames": ("node-0", "node-1"), "world_size": 2}
    first = workplace.ranks(rank(0), **settings)
    second = workplace.ranks(rank(1, node=1), node_rank=1, **settings)
    listening = second.command(
        "python3 -uc 'import socket; s = socket.create_server((\"\", 4000)); print(1); print(s.accept()[0].recv(9))'"
    )
    streams = listening.read_streams()
    assert line(streams) == "1"

    peer = 'import socket; socket.create_connection(("node-1", 4000)).sendall(b"hello")'
    assert read(first.command(f"python3 -c '{peer}'")) == (b"", b"", 0)

    assert b"".join(data for _, data in streams) == b"b'hello'\n"


def test_an_isolated_node_of_a_launcher_reaches_nothing_but_itself(workplace: Workplace) -> None:
    ranks = workplace.ranks(rank(0), isolated=True)

    out, _, code = read(ranks.command("ls /sys/class/net; python3 -c 'import socket as s; "
                                      "print(s.gethostbyname(s.gethostname()))'"))  # fmt: skip

    assert (out, code) == (b"lo\n127.0.0.1\n", 0)


def test_64_ranks_start_at_once_and_leave_nothing(workplace: Workplace) -> None:
    script = "import os; print('rank', os.environ['PUSHTRAIN_RANK'])"
    processes = [rank(number, script, kind="direct") for number in range(64)]
    outputs = [Output() for _ in processes]
    ranks = workplace.ranks(*processes)

    started = ranks.start_all(processes, lambda process: outputs[process.rank].feed)
    ends = [wait() for wait in [_in_thread(each.wait) for each in started]]
    for each in started:
        each.close()
    ranks.close()

    assert ends == [Exit(code=0)] * 64
    assert [output.data.decode() for output in outputs] == [f"rank {number}\n" for number in range(64)]
    assert workplace.containers() == []


def test_where_one_of_several_cannot_start_the_others_are_ended(workplace: Workplace) -> None:
    good, bad = (rank(number, "import time; time.sleep(1000)", kind="direct") for number in range(2))
    ranks = workplace.ranks(good, bad)
    workplace.engine.docker("rm", "pushtrain-20261122-000000-abcdef-a1-r1")

    with pytest.raises(EngineError, match="rank 1 cannot be started: No such container"):
        ranks.start_all([good, bad], lambda _: Output().feed)

    holder = "pushtrain-20261122-000000-abcdef-a1-n0"
    wait_for(
        lambda: workplace.engine.docker("ps", "--format", "{{.Names}}") == holder,
        what="rank 0 ended",
    )


def test_the_leash_asks_what_runs_in_a_node_before_it_ends_it(workplace: Workplace) -> None:
    process = launcher("trap 'sleep 0.5; touch saved; exit' TERM; touch ready; while :; do sleep 0.1; done")
    ranks, work = workplace.ranks(rank(0), process), workplace.folder / "node-0/work"
    started = ranks.start(process, Output().feed)
    wait_for(lambda: (work / "ready").exists(), what="the launcher ready")
    begun_s = time.monotonic()

    leash = subprocess.Popen(
        [sys.executable, "-m", "runner.host.leash", MARK, "docker", "30"], stdin=subprocess.PIPE
    )
    leash.communicate(b"")

    assert leash.returncode == 0
    assert time.monotonic() - begun_s < 25
    assert (work / "saved").exists()
    assert workplace.containers() == []
    with pytest.raises(EngineError):
        started.wait()


def test_a_node_whose_processes_do_not_stop_is_ended_after_the_grace(workplace: Workplace) -> None:
    ranks = workplace.ranks(rank(0))
    command = ranks.command("trap '' TERM; echo ready; while :; do sleep 0.1; done")
    assert line(command.read_streams()) == "ready"

    end_containers(MARK, grace_s=0.5)

    assert workplace.containers() == []
    ranks.signal(command.pid, signal.SIGKILL)
    assert ranks.kernel_kills() == 0


def _in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Do it in a thread; what is returned waits for its result."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()

    def result() -> Any:
        thread.join(60)
        assert results, "it still runs"
        return results[0]

    return result
