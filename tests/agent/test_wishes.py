"""What `agent start` is told and cannot be: said at once, before anything is written or started."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from runner import cli
from runner.agent import addresses, processes, wishes
from runner.agent.wishes import HeadWish, Wish
from runner.errors import StoreError, UsageError
from tests.agent.test_inventory import GIB, READY

START = ["agent", "start"]


@pytest.mark.parametrize("name", ["h1", "gpu-12", "GPU1", "1", "a" * 63])
def test_a_host_name_is_a_name(name: str) -> None:
    wishes.check(Wish(home="/home", name=name))


@pytest.mark.parametrize(
    "name", ["", "Bad Name!", "-a", "a-", "a_b", "gpu1.lab.example", "a" * 64, "All", "h\n"]
)
def test_what_is_no_host_name_is_refused_with_one_that_is(name: str) -> None:
    with pytest.raises(UsageError, match="expected a host name: letters, digits and -") as raised:
        wishes.check(Wish(home="/home", name=name))
    wishes.check(Wish(home="/home", name=raised.value.tip.partition("--name ")[2]))


@pytest.mark.parametrize("cluster", ["", "a b", "a" * 41, "lab!", "größe"])
def test_what_is_no_name_of_a_fleet_is_refused(cluster: str) -> None:
    with pytest.raises(UsageError, match=r"--cluster .*: expected letters, digits, _ and -"):
        wishes.check(HeadWish(home="/home", cluster=cluster))


@pytest.mark.parametrize(
    "registry", ["ghcr.io", "registry:5000", "10.0.0.1:5000/team/a", "registry.example/a_b/c-d"]
)
def test_a_registry_is_a_host_perhaps_with_port_and_path(registry: str) -> None:
    wishes.check(HeadWish(home="/home", registry=registry, cluster="Lab_2-b"))


@pytest.mark.parametrize(
    "registry", ["", "http://x y", "http://x", "x:port", "x:0", "x:70000", "x/", "x/Team", "x y", "/team"]
)
def test_what_is_no_registry_is_refused(registry: str) -> None:
    with pytest.raises(UsageError, match=r"expected HOST\[:PORT\]\[/PATH\]"):
        wishes.check(HeadWish(home="/home", registry=registry))


@pytest.mark.parametrize("cpus", [-3, 0, 9, 9999])
def test_more_cpus_than_there_are_are_refused_with_how_many_there_are(cpus: int) -> None:
    with pytest.raises(UsageError, match=f"--cpus {cpus}: expected 1 to 8") as raised:
        wishes.check_offer(cpus=cpus, memory_bytes=None, there=READY)
    assert "--cpus 8" in raised.value.tip


@pytest.mark.parametrize("memory_bytes", [0, 1, 64 * GIB + 1, 9999 * 2**40])
def test_more_memory_than_there_is_is_refused_with_how_much_there_is(memory_bytes: int) -> None:
    with pytest.raises(UsageError, match=r"--memory .*: expected 1 MiB to 64 GiB"):
        wishes.check_offer(cpus=None, memory_bytes=memory_bytes, there=READY)


def test_a_host_may_give_one_core_or_all_that_it_has() -> None:
    for cpus, memory_bytes in [(None, None), (1, 2**20), (8, 64 * GIB)]:
        wishes.check_offer(cpus=cpus, memory_bytes=memory_bytes, there=READY)
    with pytest.raises(UsageError, match="expected 1 to 2"):
        wishes.check_offer(cpus=4, memory_bytes=None, there=replace(READY, cpus=2))


@pytest.mark.parametrize(
    "address", ["", "nowhere.invalid", "192.0.2.1", "0.0.0.0", "224.0.0.1", "255.255.255.255"]
)
def test_an_address_that_is_not_this_machines_is_told_at_once(address: str) -> None:
    began_s = time.monotonic()
    with pytest.raises(UsageError, match="this machine") as raised:
        addresses.own(address)
    assert "ip -4 addr" in raised.value.tip
    assert time.monotonic() - began_s < 20


def test_an_address_of_this_machine_may_be_a_name() -> None:
    assert addresses.own("localhost") == addresses.own("127.0.0.1") == "127.0.0.1"


def test_an_address_that_was_found_is_found_anew_where_the_machine_has_it_no_more() -> None:
    assert addresses.of_former("127.0.0.5", head="127.0.0.1") == "127.0.0.5"
    assert addresses.of_former("192.0.2.1", head="127.0.0.1") == "127.0.0.1"


def test_a_store_is_a_folder_that_is_there_or_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    for uri in (str(tmp_path), str(tmp_path / "new"), str(tmp_path / "home" / "store"), f"file://{tmp_path}"):
        wishes.check_store(uri, home=tmp_path / "home")
    assert not (tmp_path / "new").exists()


def test_a_store_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for uri, why in (
        ("/nonexistent/store", "there is no /nonexistent"),
        ("runs", "expected a path from / on"),
        (str(tmp_path / "file"), "is no folder"),
    ):
        with pytest.raises(UsageError, match=why) as raised:
            wishes.check_store(uri, home=tmp_path / "home")
        assert raised.value.tip
    for uri in ("", "http://store", "s3://bucket/fleet?endpoint=http://127.0.0.1:9&region=a&attempts=1"):
        with pytest.raises(StoreError) as raised_by_store:
            wishes.check_store(uri, home=tmp_path / "home")
        assert raised_by_store.value.tip


def test_a_queue_of_another_fleet_is_not_taken_over(tmp_path: Path) -> None:
    wishes.check_state("lab", tmp_path)
    (tmp_path / "slurmctld").mkdir()
    (tmp_path / "slurmctld" / "clustername").write_text("old")
    wishes.check_state("old", tmp_path)
    with pytest.raises(UsageError, match="holds the queue of the fleet old") as raised:
        wishes.check_state("lab", tmp_path)
    assert "--cluster old" in raised.value.tip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--head --client", "--client: only with --join HEAD"),
        ("--head --join h0", "--head --join: a machine is the head or joins one"),
        ("--head --token-file F", "--token-file: only with --join HEAD"),
        ("--client", "--client: only with --join HEAD"),
        ("--join h0", "needs the head's name and token"),
        ("--join h0 --token-file F --cluster lab --no-work", "--no-work --cluster: only with --head"),
        ("--cpus 0 --label a=b", "--label --cpus: a start without --head or --join is as the last time"),
        ("--head --registry a:5000 --serve-registry", "a fleet has one registry"),
        ("--head --memory much", "--memory: 'much' is not a size"),
        ("--head --cache-quota much", "much"),
        ("--head --name b@d", "expected a host name"),
        ("--head --registry http://x", "expected HOST"),
        ("--head --store /nonexistent/store", "there is no /nonexistent"),
        ("--head --address 192.0.2.1", "it is none of this machine's addresses"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    words: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PUSHTRAIN_RUN", str(tmp_path / "run"))
    monkeypatch.delenv("PUSHTRAIN_STORE", raising=False)
    assert cli.main([*START, "--state", str(tmp_path / "state"), *words.split()]) == UsageError.exit_code
    told = capsys.readouterr().err
    assert said in told
    assert "tip" in told.lower() or "type" in told.lower()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", ["drain h1", "resume h1", "drain", "leave", "token", "status"])
def test_on_a_machine_of_no_fleet_it_is_said_at_once(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PUSHTRAIN_RUN", str(tmp_path))
    began_s = time.monotonic()
    assert cli.main(["agent", *words.split()]) != 0
    told = capsys.readouterr().err
    assert "no agent was started on this machine" in told
    assert "pushtrain agent start" in told
    assert time.monotonic() - began_s < 5


def test_of_a_log_only_what_was_written_since_is_shown(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("old\n")
    logs = processes.Logs.now(tmp_path)
    assert logs.tail("a.log") == logs.tail("b.log") == ""
    with (tmp_path / "a.log").open("a") as file:
        file.write("new\n")
    assert logs.tail("a.log") == "new"
    (tmp_path / "a.log").write_text("n\n")
    assert logs.tail("a.log") == "n"
