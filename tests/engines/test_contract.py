"""What every engine owes a run, from `pushtrain run` to the sealed outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.engines.project import Project, wait_for

LITERAL = 'a\'b "c" $HOME `id` \\ * ; exit 3 # é'


def test_a_run_ends_with_sealed_outputs_and_logs(project: Project, tmp_path: Path) -> None:
    project.write(
        """
        os.makedirs("outputs/deep")
        open("outputs/model.bin", "wb").write(bytes(range(256)) * 1000)
        open("outputs/deep/run.sh", "w").write("#!/bin/sh\\n")
        os.chmod("outputs/deep/run.sh", 0o755)
        open(os.environ["PUSHTRAIN_LOGS"] + "/metrics.jsonl", "w").write('{"step": 1, "accuracy": 0.9}\\n')
        open("elsewhere", "w").write("not kept")
        print("trained", flush=True)
        """,
        metrics={"primary": "accuracy"},
    )

    done = project.pushtrain("run")

    assert done.code == 0, done.output
    assert "trained" in done.output
    run = project.run
    assert (run.state, run.exit_code, run.metric) == ("succeeded", 0, ("accuracy", 0.9))
    assert project.outputs() == {
        "logs/metrics.jsonl": b'{"step": 1, "accuracy": 0.9}\n',
        "outputs/deep/run.sh": b"#!/bin/sh\n",
        "outputs/model.bin": bytes(range(256)) * 1000,
    }
    assert project.pushtrain("outputs", "last", "get", ".", str(tmp_path / "copy")).code == 0
    assert (tmp_path / "copy/outputs/deep/run.sh").stat().st_mode & 0o100
    assert project.pushtrain("logs", "last").output == "trained\n"


def test_the_exit_code_of_the_first_rank_that_failed_is_passed_on(project: Project) -> None:
    project.write(
        """
        if os.environ["PUSHTRAIN_RANK"] == "1":
            sys.exit(7)
        hold()
        """,
        distribution={"type": "none", "processes_per_node": 3},
    )

    done = project.pushtrain("run")

    assert done.code == 7, done.output
    assert "rank 1 ended with exit code 7" in done.output
    assert project.run.attempts[-1].failed_rank == 1
    assert project.run.state == "failed"


def test_the_signal_that_ended_a_rank_is_named(project: Project) -> None:
    project.write("import signal; os.kill(os.getpid(), signal.SIGSEGV)")

    done = project.pushtrain("run")

    assert done.code == 139, done.output
    assert "rank 0 was ended by SIGSEGV" in done.output


def test_every_rank_is_told_its_place_and_its_lines_are_told_apart(project: Project) -> None:
    project.write(
        """
        import json
        names = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "NODES")
        mine = {n: os.environ["PUSHTRAIN_" + n] for n in names}
        json.dump(mine, open(f"outputs/{mine['RANK']}.json", "w"))
        print("I am", mine["RANK"], flush=True)
        """,
        resources={"nodes": 2},
        distribution={"type": "none", "processes_per_node": 2},
    )

    done = project.pushtrain("run")

    assert done.code == 0, done.output
    outputs = project.outputs()
    told = [
        json.loads(outputs[f"{prefix}outputs/{rank}.json"])
        for rank, prefix in enumerate(("", "", "node-1/", "node-1/"))
    ]
    assert [[t["RANK"], t["LOCAL_RANK"], t["NODE_RANK"], t["WORLD_SIZE"], t["NODES"]] for t in told] == [
        ["0", "0", "0", "4", "2"],
        ["1", "1", "0", "4", "2"],
        ["2", "0", "1", "4", "2"],
        ["3", "1", "1", "4", "2"],
    ]
    assert all(f"[rank {rank}] I am {rank}\n" in done.output for rank in range(4))


def test_a_secret_reaches_the_ranks_and_nothing_else(project: Project) -> None:
    project.environ["API_TOKEN"] = "tok-5f2a9c71"
    project.write(
        """
        token = os.environ["API_TOKEN"]
        print("token", token, os.environ["COPY"], flush=True)
        open("outputs/proof", "w").write(token[::-1])
        hold()
        """,
        secrets=["API_TOKEN"],
        env={"COPY": "<${{ secrets.API_TOKEN }}>"},
    )

    command = project.start("run")
    project.until_prints("token ***")
    arguments = [Path(f"/proc/{p}/cmdline").read_bytes() for p in _python_processes(project)]
    assert not [a for a in arguments if b"tok-5f2a9c71" in a]
    project.let_go()
    done = command.finish()

    assert done.code == 0, done.output
    assert "token *** <***>" in done.output
    assert project.outputs()["outputs/proof"] == b"17c9a2f5-kot"
    holding = [p for p in project.home.rglob("*") if p.is_file() and b"tok-5f2a9c71" in p.read_bytes()]
    assert not holding


def _python_processes(project: Project) -> list[int]:
    modules = ("runner.supervise", "runner.host", "runner.host.leash")
    return [pid for module in modules for pid in project.processes(module)] + project.ranks()


def test_values_with_meaning_to_a_shell_arrive_as_they_are(project: Project) -> None:
    project.environ["ODD"] = LITERAL
    project.write(
        """
        import json
        json.dump([sys.argv[1:], os.environ["FROM_ENV"], os.environ["ODD"]], open("outputs/got", "w"))
        """,
        run="python3 train.py ${{ inputs.text }} -- ${{ secrets.ODD }}",
        inputs={"text": {"type": "string", "default": "x"}},
        env={"FROM_ENV": "${{ inputs.text }}"},
        secrets=["ODD"],
    )

    done = project.pushtrain("run", "-p", f"text={LITERAL}")

    assert done.code == 0, done.output
    assert json.loads(project.outputs()["outputs/got"]) == [[LITERAL, "--", LITERAL], LITERAL, LITERAL]


def test_a_data_set_arrives_where_the_command_is_told(project: Project, tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits/one.txt").write_text("1\n")
    project.write(
        """
        open("outputs/got", "w").write(open(sys.argv[1] + "/one.txt").read())
        assert sys.argv[1] == os.environ["PUSHTRAIN_DATASET_DIGITS"]
        """,
        run="python3 train.py ${{ datasets.digits }}",
        datasets={"digits": {"source": str(tmp_path / "digits")}},
    )

    done = project.pushtrain("run")

    assert done.code == 0, done.output
    assert project.outputs()["outputs/got"] == b"1\n"


def test_a_run_that_takes_longer_than_its_limit_is_stopped(project: Project) -> None:
    project.write("print('on', flush=True); hold()", timeout={"run": "1s", "grace": "2s"})

    done = project.pushtrain("run")

    assert done.code == 75, done.output
    assert "timeout.run: it ran for more than 1 s" in done.output


def test_a_run_that_falls_silent_is_stopped(project: Project) -> None:
    project.write("print('on', flush=True); hold()", timeout={"silence": "1s", "grace": "2s"})

    done = project.pushtrain("run")

    assert done.code == 75, done.output
    assert "timeout.silence: no output for" in done.output


def test_a_retry_goes_on_from_the_checkpoint(project: Project) -> None:
    project.write(
        """
        path = os.environ.get("PUSHTRAIN_RESUME_FROM")
        step = int(open(path + "/step").read()) if path else 0
        os.makedirs("outputs/checkpoints", exist_ok=True)
        open("outputs/checkpoints/step", "w").write(str(step + 1))
        print("attempt", os.environ["PUSHTRAIN_ATTEMPT"], "from", step, flush=True)
        sys.exit(33 if step < 2 else 0)
        """,
        outputs={"checkpoints": "outputs/checkpoints"},
        retry={"max": 3, "exit_codes": [33]},
    )

    done = project.pushtrain("run")

    assert done.code == 0, done.output
    assert [a.exit_code for a in project.run.attempts] == [33, 33, 0]
    assert project.outputs()["outputs/checkpoints/step"] == b"3"
    assert "attempt 3 from 2" in done.output


def test_a_process_that_leaves_its_session_does_not_outlive_its_rank(project: Project) -> None:
    project.write(
        """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                open("daemon", "w").write("up")
                time.sleep(600)
            os._exit(0)
        hold("daemon")
        """
    )

    done = project.pushtrain("run")

    assert done.code == 0, done.output
    assert not project.ranks()


def test_detached_the_command_returns_at_once_and_the_run_ends_by_itself(project: Project) -> None:
    project.write("hold(); open('outputs/done', 'w').write('yes')")

    run_id = project.pushtrain("run", "--detach").output.split()[0]
    project.until("running", run_id=run_id)
    wait_for(project.work().exists, what="the working folder")
    project.let_go()
    project.until("succeeded", run_id=run_id)

    assert project.outputs(run_id) == {"outputs/done": b"yes"}


def test_the_same_again_is_answered_by_the_finished_run(project: Project) -> None:
    project.write("open('outputs/one', 'w').write('1')")
    first = project.pushtrain("run")
    again = project.pushtrain("run")
    fresh = project.pushtrain("run", "--fresh")
    project.write("open('outputs/two', 'w').write('2')")
    changed = project.pushtrain("run")

    assert [d.code for d in (first, again, fresh, changed)] == [0, 0, 0, 0]
    assert "did just this and succeeded" in again.output
    assert len(project.run_ids) == 3
    assert project.outputs() == {"outputs/two": b"2"}


def test_outputs_that_became_a_link_to_the_whole_machine_are_not_kept(local_project: Project) -> None:
    local_project.write('import os, shutil; shutil.rmtree("outputs"); os.symlink("/", "outputs")')

    done = local_project.pushtrain("run")

    assert done.code == 0, done.output
    assert local_project.outputs() == {}


def test_what_cannot_be_kept_is_told(project: Project) -> None:
    project.write(
        """
        os.symlink("/proc/1/exe", "outputs/link")
        os.mkfifo("outputs/pipe")
        open(b"outputs/not-utf8-\\xff", "w").write("x")
        open("outputs/kept", "w").write("x")
        """
    )

    done = project.pushtrain("run")

    assert done.code == 0, done.output
    assert project.outputs() == {"outputs/kept": b"x"}
    told = " ".join(project.run.warnings)
    assert "outputs/link is not kept" in told
    assert "outputs/pipe is not kept" in told
    assert "not-utf8-" in told


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_a_metric_that_is_no_number_fails_the_run_and_no_other_command(
    local_project: Project, value: str
) -> None:
    local_project.write(
        f"""open("logs/metrics.jsonl", "w").write('{{"step": 1, "accuracy": {value}}}\\n')""",
        metrics={"primary": "accuracy", "fail_if": "> 0.5"},
    )

    done = local_project.pushtrain("run")

    assert done.code == 1, done.output
    assert local_project.run.state == "failed"
    assert local_project.run.metric is None
    assert local_project.pushtrain("runs").code == 0


def test_a_daemon_that_shed_its_environment_ends_with_the_run(local_project: Project) -> None:
    local_project.write(
        """
        import subprocess
        daemon = subprocess.Popen(["env", "-i", "setsid", "sleep", "4242"], stdout=subprocess.DEVNULL)
        open("outputs/pid", "w").write(str(daemon.pid))
        """
    )

    done = local_project.pushtrain("run")

    assert done.code == 0, done.output
    assert not Path(f"/proc/{local_project.outputs()['outputs/pid'].decode()}").exists()
