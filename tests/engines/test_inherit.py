"""What a supervisor inherits from the job that started it: what a run needs, and nothing that is the job's."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.inherit import inherited, inherited_by_isolated, is_the_jobs
from tests.engines.project import Project, wait_for

JOB = {
    "GITHUB_TOKEN": "ghs_job",
    "GITHUB_ENV": "/runner/env",
    "GITHUB_OUTPUT": "/runner/output",
    "GITHUB_STATE": "/runner/state",
    "ACTIONS_RUNTIME_TOKEN": "runtime",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "oidc",
    "ACTIONS_RESULTS_URL": "https://results",
    "INPUT_TOKEN": "ghs_job",
    "PUSHTRAIN_INPUT_TOKEN": "ghs_job",
    "PUSHTRAIN_TOKEN": "github_pat",
    "PUSHTRAIN_APP_ID": "12",
    "PUSHTRAIN_APP_PRIVATE_KEY": "-----BEGIN",
    "PUSHTRAIN_SIGNING_KEY": "key",
    "PUSHTRAIN_SIGNING_KEY_FILE": "/keys/pushtrain.key",
    "PUSHTRAIN_SIGSTORE": "off",
    "RUNNER_TRACKING_ID": "github_1234",
    "RUNNER_TEMP": "/runner/temp",
}
TOKENS = {"GH_TOKEN": "gho_person", "GH_ENTERPRISE_TOKEN": "gho_person", "SIGSTORE_ID_TOKEN": "oidc"}
MACHINE = {
    "PATH": "/bin",
    "HOME": "/home/user",
    "https_proxy": "http://proxy",
    "AWS_ACCESS_KEY_ID": "AKIA",
    "DOCKER_HOST": "unix:///run/docker.sock",
    "PUSHTRAIN_HOME": "/home/user/.pushtrain",
    "PUSHTRAIN_STORE": "s3://bucket",
    "PUSHTRAIN_REGISTRY": "registry:5000",
}
OWN = {"UV_FIND_LINKS": "/wheels", "PIP_INDEX_URL": "https://index", "API_TOKEN": "tok", "EDITOR": "vi"}
EVERYTHING = {**JOB, **TOKENS, **MACHINE, **OWN}


def test_a_supervisor_inherits_the_machine_and_nothing_of_the_job() -> None:
    assert inherited(EVERYTHING, secrets=()) == {**MACHINE, **OWN}


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_that_train_yml_lists_is_kept(name: str) -> None:
    assert inherited(EVERYTHING, secrets=(name,))[name] == EVERYTHING[name]


@pytest.mark.parametrize("name", JOB)
def test_what_is_the_jobs_is_never_kept_though_train_yml_lists_it(name: str) -> None:
    assert is_the_jobs(name)
    assert name not in inherited(EVERYTHING, secrets=(name,))


def test_the_supervisor_of_a_forks_run_inherits_only_what_it_needs() -> None:
    assert inherited_by_isolated(EVERYTHING) == MACHINE


def _environ(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def test_no_process_of_a_run_carries_what_is_the_jobs(local_project: Project) -> None:
    local_project.environ |= {**JOB, **TOKENS, "API_TOKEN": "tok-5f2a"}
    local_project.write(
        """
        print("token" if os.environ["API_TOKEN"] == "tok-5f2a" else "none", flush=True)
        hold()
        """,
        secrets=["API_TOKEN"],
    )

    local_project.pushtrain("run", "--detach")
    local_project.until_prints("token")
    modules = ("runner.supervise", "runner.host", "runner.host.leash")
    found = {module: local_project.processes(module) for module in modules}
    ranks = local_project.ranks()

    assert all(len(pids) == 1 for pids in found.values())
    assert ranks
    for pid in [*ranks, *(pid for pids in found.values() for pid in pids)]:
        assert not {*JOB, *TOKENS} & _environ(pid).keys()
    assert _environ(found["runner.supervise"][0])["API_TOKEN"] == "tok-5f2a"
    local_project.let_go()
    local_project.until("succeeded")
    wait_for(lambda: not local_project.leftovers(), what="nothing of an ended run left")


def test_a_secret_that_is_the_jobs_is_refused_before_anything_starts(local_project: Project) -> None:
    local_project.environ["GITHUB_TOKEN"] = "ghs_job"
    local_project.write("print('never')", secrets=["GITHUB_TOKEN"])

    done = local_project.pushtrain("run")

    assert done.code == 67, done.output
    assert "GITHUB_TOKEN belongs to the workflow's job" in done.output
    assert local_project.run_ids == ()


def test_a_folder_of_the_project_is_not_taken_for_the_package(local_project: Project) -> None:
    local_project.write("print('trained', flush=True)")
    (local_project.folder / "runner").mkdir()
    (local_project.folder / "runner/__init__.py").write_text("raise SystemExit('not this one')")
    local_project.commit()

    done = local_project.pushtrain("run")

    assert done.code == 0, done.output
    assert "trained" in done.output
