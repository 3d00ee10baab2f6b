"""Gangs on both engines: under a launcher or side by side, stopped together, each failure told as what it was."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runner.host.leash import marked_processes
from tests.engines.project import Project, wait_for

pytestmark = [pytest.mark.slow]
MPI = {"resources": {"nodes": 2}, "distribution": {"type": "mpi", "processes_per_node": 2}}
RANKS = range(4)


@pytest.fixture
def gang(project: Project) -> Project:
    """A project that trains in an image of its own where the engine takes images: Open MPI is added to that."""
    if "image" in project.environment:
        project.environment = {"base": project.environment["image"]}
    elif shutil.which("mpirun") is None:
        pytest.fail("not installed: openmpi-bin; run tests/services/packages", pytrace=False)
    return project


def run(project: Project, script: str, *, code: int = 0, **sections: Any) -> str:
    project.write(script, **{**MPI, **sections})
    finished = project.pushtrain("run", within_s=400)
    assert finished.code == code, finished.output + project.told()
    return finished.output


def until_all_print(project: Project, text: str) -> None:
    wait_for(lambda: project.run_ids, what="a run", told=project.told)
    for rank in RANKS:
        project.until_prints(text, rank=rank)


def test_mpirun_starts_ranks_on_every_node_and_each_has_its_own_log(gang: Project) -> None:
    run(
        gang,
        """
        import socket
        told = {n: v for n, v in os.environ.items() if n.startswith(("OMPI_COMM_WORLD", "PUSHTRAIN_"))}
        print("I am", told["PUSHTRAIN_RANK"], told["OMPI_COMM_WORLD_RANK"], "of", told["OMPI_COMM_WORLD_SIZE"],
              "on node", told["PUSHTRAIN_NODE_RANK"], "as local", told["OMPI_COMM_WORLD_LOCAL_RANK"])
        print("here", os.path.basename(os.getcwd()), os.environ["WORD"])
        """,
        env={"WORD": "it's $HOME"},
    )
    for rank in RANKS:
        log = gang.log(gang.run.id, rank=rank)
        assert f"I am {rank} {rank} of 4 on node {rank // 2} as local {rank % 2}\n" in log
        assert "it's $HOME" in log
    assert gang.run.launchers == 1


def test_the_rank_that_failed_is_named_with_its_node_code_and_words(gang: Project) -> None:
    output = run(
        gang,
        """
        if os.environ["PUSHTRAIN_RANK"] == "2":
            raise SystemExit("no such thing as luck")
        time.sleep(60)
        """,
        code=1,
    )
    assert "rank 2 (node 1) ended with exit code 1" in output
    assert "no such thing as luck" in output


def test_a_rank_that_is_killed_is_named_with_its_signal(gang: Project) -> None:
    output = run(
        gang,
        """
        import signal
        if os.environ["PUSHTRAIN_RANK"] == "3":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
        """,
        code=137,
    )
    assert "rank 3 (node 1) was ended by SIGKILL: killed from outside" in output


def test_the_others_may_save_when_one_fails(gang: Project) -> None:
    run(
        gang,
        """
        import signal
        def save(*_):
            with open("outputs/saved-" + os.environ["PUSHTRAIN_RANK"], "a") as file:
                file.write("saved once\\n")
            sys.exit(0)
        signal.signal(signal.SIGTERM, save)
        open("ready-" + os.environ["PUSHTRAIN_RANK"], "w").close()
        if os.environ["PUSHTRAIN_RANK"] == "1":
            while not os.path.exists("ready-0"):
                time.sleep(0.05)
            time.sleep(1)
            sys.exit(9)
        time.sleep(60)
        """,
        code=9,
    )
    outputs = gang.outputs()
    assert outputs["outputs/saved-0"] == b"saved once\n"
    assert outputs["node-1/outputs/saved-2"] == outputs["node-1/outputs/saved-3"] == b"saved once\n"


def test_cancelling_stops_every_rank_of_every_node(gang: Project) -> None:
    gang.write("print('here', flush=True)\ntime.sleep(600)", **MPI)
    command = gang.start("run")
    until_all_print(gang, "here")
    command.interrupt()
    assert command.finish().code == 130
    assert gang.run.state == "cancelled"


def test_the_agent_reaches_the_nodes_of_its_run_and_nobody_else(gang: Project) -> None:
    run(
        gang,
        """
        import subprocess
        def agent(*words, text=""):
            done = subprocess.run(["pushtrain-agent", *words], input=text, capture_output=True, text=True)
            return done.returncode, done.stdout, done.stderr
        if os.environ["PUSHTRAIN_RANK"] == "0":
            print(agent("node-1", "cat; echo $PUSHTRAIN_NODE_RANK; echo oops >&2; exit 3", text="hello "))
            print(agent("elsewhere", "true"))
            print(agent("node-1", "cat | wc -c", text="x" * 300_000))
        """,
    )
    log = gang.log(gang.run.id)
    assert "(3, 'hello 1\\n', 'oops\\n')" in log
    assert "(255, '', 'pushtrain-agent: there is no node elsewhere in this run: node-0, node-1\\n')" in log
    assert "(0, '300000\\n', '')" in log


def test_parameter_servers_end_when_the_chief_is_done(gang: Project) -> None:
    run(
        gang,
        """
        import json
        task = json.loads(os.environ["TF_CONFIG"])["task"]
        print("I am", task["type"], task["index"], flush=True)
        time.sleep(0.5 if task["type"] == "chief" else 600)
        """,
        resources={"nodes": 2},
        distribution={"type": "tensorflow", "workers": 2, "parameter_servers": 1, "chief": True},
    )
    assert "I am chief 0" in gang.log(gang.run.id)
    assert "I am ps 0" in gang.log(gang.run.id, rank=3)


def test_ranks_find_each_other_at_the_chiefs_port(gang: Project) -> None:
    run(
        gang,
        """
        import socket
        host, port = os.environ["PUSHTRAIN_CHIEF"].split(":")
        if os.environ["PUSHTRAIN_RANK"] == "0":
            with socket.create_server(("0.0.0.0", int(port))) as server:
                for _ in range(3):
                    peer, _ = server.accept()
                    print("heard", peer.recv(10).decode(), flush=True)
        else:
            for _ in range(200):
                try:
                    with socket.create_connection((host, int(port))) as chief:
                        chief.sendall(os.environ["PUSHTRAIN_RANK"].encode())
                    break
                except OSError:
                    time.sleep(0.1)
        """,
        distribution={"type": "none", "processes_per_node": 2},
    )
    assert {line for line in gang.log(gang.run.id).splitlines()} == {"heard 1", "heard 2", "heard 3"}


def test_two_ranks_that_write_one_file_are_told_of(gang: Project) -> None:
    run(gang, 'open("outputs/model.txt", "w").write(os.environ["PUSHTRAIN_RANK"])')
    told = "\n".join(gang.run.warnings)
    assert "ranks 0 and 1 wrote the same file: outputs/model.txt" in told
    assert "node 1 wrote outputs/model.txt too" in told


def test_every_rank_has_a_folder_of_its_own_on_request(gang: Project) -> None:
    run(
        gang,
        'open(os.environ["PUSHTRAIN_OUTPUTS"] + "/model.txt", "w").write(os.environ["PUSHTRAIN_RANK"])',
        outputs={"per_rank": True},
    )
    assert gang.run.warnings == ()
    for rank in RANKS:
        assert gang.outputs()[f"outputs/rank-{rank}/model.txt"] == str(rank).encode()


def test_silence_of_a_gang_ends_it_and_leaves_what_every_rank_was_doing(gang: Project) -> None:
    output = run(
        gang,
        """
        def waits_for_nothing():
            time.sleep(600)
        waits_for_nothing()
        """,
        code=75,
        timeout={"silence": "3s", "grace": "1s"},
    )
    assert "timeout.silence: no output for" in output
    outputs = gang.outputs()
    for rank in RANKS:
        where = f"node-{rank // 2}/" if rank > 1 else ""
        assert b"waits_for_nothing" in outputs[f"{where}logs/stacks/rank-{rank}.txt"]


def test_a_retry_goes_on_from_the_last_checkpoint_on_every_node(gang: Project) -> None:
    run(
        gang,
        """
        import json
        rank, attempt = os.environ["PUSHTRAIN_RANK"], os.environ["PUSHTRAIN_ATTEMPT"]
        folder = os.environ.get("PUSHTRAIN_RESUME_FROM")
        done = int(open(folder + "/step").read()) if folder else 0
        print("from step", done, flush=True)
        if rank == "0":
            os.makedirs("outputs/checkpoints", exist_ok=True)
            with open("logs/metrics.jsonl", "a") as log:
                for step in range(done + 1, 9):
                    log.write(json.dumps({"step": step, "loss": 1.0 / step}) + "\\n")
                    log.flush()
                    if step == 4:
                        open("outputs/checkpoints/step", "w").write("4")
                    if step == 6 and attempt == "1":
                        log.close()
                        sys.exit(33)
        """,
        outputs={"checkpoints": "outputs/checkpoints"},
        retry={"max": 1, "exit_codes": [33]},
    )
    first, second = gang.run.attempts
    assert (first.outcome, first.failed_rank, first.steps_lost) == ("failed", 0, 2)
    assert second.outcome == "succeeded"
    assert "from step 0" in gang.log(gang.run.id)
    for rank in RANKS:
        assert "from step 4" in gang.log(gang.run.id, rank=rank, attempt=2)


def test_a_lost_supervisor_is_replaced_while_mpirun_runs_on(gang: Project) -> None:
    gang.write("print('here', flush=True)\nhold()\nprint('done', flush=True)", **MPI)
    gang.start("run", "--detach")
    until_all_print(gang, "here")
    gang.kill("runner.supervise")
    resumed = gang.start("resume", gang.run.id)
    wait_for(lambda: gang.processes("runner.supervise"), what="another supervisor")
    for node in (0, 1):
        gang.let_go(node=node)
    assert resumed.finish(within_s=120).code == 0, gang.told()
    assert len(gang.run.attempts) == 1
    for rank in RANKS:
        assert gang.log(gang.run.id, rank=rank).endswith("done\n")


def test_a_host_that_is_killed_loses_the_attempt_and_leaves_nothing(gang: Project) -> None:
    gang.write("print('here', flush=True)\nhold()", **MPI)
    command = gang.start("run")
    until_all_print(gang, "here")
    hosts = sorted(gang.processes("runner.host"))
    os.kill(hosts[-1], signal.SIGKILL)
    finished = command.finish(within_s=120)
    assert finished.code == 72, finished.output
    assert "the host process of node" in finished.output


def test_launchers_have_a_log_of_their_own(gang: Project) -> None:
    """mpirun tells of a rank that failed while another has not ended."""
    output = run(
        gang,
        """
        import signal
        signal.signal(signal.SIGTERM, lambda *_: (time.sleep(2), sys.exit(0)))
        if os.environ["PUSHTRAIN_RANK"] == "1":
            time.sleep(0.5)
            sys.exit(4)
        time.sleep(60)
        """,
        code=4,
    )
    assert "[launcher]" in output
    assert "aborted" in gang.pushtrain("logs", gang.run.id, "--rank", "4").output
    assert json.loads(gang.pushtrain("show", gang.run.id, "--json").output)["launchers"] == 1


def test_a_node_that_mpirun_loses_is_a_lost_node_which_a_retry_replaces(gang: Project) -> None:
    gang.write(
        "print('here', flush=True)\nif os.environ['PUSHTRAIN_ATTEMPT'] == '1': hold()",
        **{**MPI, "retry": {"max": 1}},
    )
    command = gang.start("run")
    until_all_print(gang, "here")
    if gang.engine == "docker":
        name = f"pushtrain-{gang.run.id}-a1-n1"
        subprocess.run(["docker", "kill", name], check=True, capture_output=True)
    else:
        os.kill(_daemon_of(gang.run.id, node=1), signal.SIGKILL)
    finished = command.finish(within_s=200)
    assert finished.code == 0, finished.output + gang.told()
    first, second = gang.run.attempts
    assert (first.outcome, second.outcome) == ("lost", "succeeded")
    assert "mpirun lost node-1" in first.cause


def _daemon_of(run_id: str, *, node: int) -> int:
    """The process of Open MPI's daemon on a node."""
    for pid in marked_processes(f"{run_id}:{node}:"):
        if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(b"orted"):
            return pid
    raise AssertionError("no daemon")
