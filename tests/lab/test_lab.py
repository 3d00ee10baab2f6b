"""The lab: what its hosts have of their own, what can happen to them, and that nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.lock import is_held
from tests.engines.project import wait_for
from tests.lab import Lab, LabError
from tests.lab.namespaces import Process, awaited
from tests.lab.plan import LOCKS, Plan
from tests.lab.slurm import can_use, gres, slug
from tests.services.slots import lock_of

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
_CONNECTS = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)"


def reaches(lab: Lab, name: str, address: str, port: int) -> bool:
    """Whether a program on that host gets a connection."""
    argv = (sys.executable, "-c", _CONNECTS, address, str(port))
    return lab.host(name).run(*argv, check=False).returncode == 0


def gang(lab: Lab, *argv: str, hosts: int = 3) -> list[str]:
    """What a gang with all GPUs printed, a line for each host."""
    asked = ("srun", f"--nodes={hosts}", "--gpus-per-node=2", "--immediate=120", *argv)
    return sorted(lab.head.run(*asked, timeout_s=150).stdout.splitlines())


def left_of(slot: int) -> list[str]:
    """What of a lab of that number is on this machine."""
    link, cgroups = f"ptlab{slot}", Path("/sys/fs/cgroup")
    found = [str(path) for pattern in (f"{link}-*", f"*/{link}-*") for path in cgroups.glob(pattern)]
    for argv in (["iptables-save"], ["ip", "-o", "link"], ["findmnt", "-n", "-o", "TARGET"]):
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        found += [line for line in said.splitlines() if link in line]
    return found


def processes_of(folder: Path) -> list[str]:
    """Command lines of those that were started for the lab in `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            said = path.read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if f"{folder}/" in said and int(path.parts[2]) != os.getpid():
            found.append(said)
    return found


def loops_of(folder: Path) -> list[str]:
    said = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout
    return [line for line in said.splitlines() if f"{folder}/" in line]


def gone(lab_folder: Path, slot: int) -> None:
    """Blocks until nothing of a lab is left; what the kernel still unmounts may take a moment."""
    awaited("the end of its processes", lambda: not processes_of(lab_folder))
    awaited("the end of its disks", lambda: not loops_of(lab_folder))
    # Another session may have made a lab of that number since.
    assert left_of(slot) == [] or is_held(lock_of(LOCKS, slot))


class TestPlan:
    def test_a_lab_is_found_again_by_its_folder(self, tmp_path: Path) -> None:
        plan = Plan(
            folder=tmp_path, cache=tmp_path, slot=3, hosts=("h0", "h1"), later=("h2",), environ={"A": "b"}
        )
        plan.save()
        assert Plan.load(tmp_path) == plan

    def test_addresses_are_of_the_slot_and_the_host(self, tmp_path: Path) -> None:
        plan = Plan(folder=tmp_path, cache=tmp_path, slot=3, hosts=("h0", "h1"), later=("h2",))
        assert [plan.address(name) for name in plan.names] == ["10.77.3.10", "10.77.3.11", "10.77.3.12"]

    def test_a_folder_without_a_lab_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(LabError, match="no lab in"):
            Lab.open(tmp_path)

    def test_a_model_is_a_type_for_slurm(self) -> None:
        assert slug("NVIDIA H100 80GB HBM3") == "nvidia_h100_80gb_hbm3"
        assert (
            gres(gpus=2, model="Tesla V100-SXM2-16GB")
            == "Name=gpu Type=tesla_v100_sxm2_16gb File=/dev/tty[10-11]\n"
        )
        assert gres(gpus=0, model="any") == ""

    @pytest.mark.parametrize(
        ("state", "started", "usable"),
        [
            ("IDLE+DYNAMIC_NORM", "2026-11-22T10:00:00", True),
            ("MIXED+DYNAMIC_NORM", "2026-11-22T10:00:00", True),
            ("IDLE+DYNAMIC_NORM", "None", False),
            ("IDLE+DYNAMIC_NORM+NOT_RESPONDING", "2026-11-22T10:00:00", False),
            ("DOWN+DYNAMIC_NORM", "2026-11-22T10:00:00", False),
        ],
    )
    def test_slurm_can_use_nodes_that_have_told_of_themselves_and_answer(
        self, state: str, started: str, usable: bool
    ) -> None:
        assert can_use(f"NodeName=h1 State={state} BootTime=… SlurmdStartTime={started} …") is usable


@pytest.mark.fleet
class TestHosts:
    def test_a_host_has_a_name_an_address_and_an_environment_of_its_own(self, lab: Lab) -> None:
        for host in lab.hosts:
            said = json.loads(
                host.run(sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))").stdout
            )
            assert host.run("hostname").stdout.strip() == host.name
            assert host.address in host.run("ip", "-br", "address").stdout
            assert set(said) - {"LC_CTYPE", "PWD"} == set(host.environ)
            assert said["PUSHTRAIN_HOME"] == str(host.state)
            assert lab.host("h0").run("test", "-d", said["PUSHTRAIN_HOME"], check=False).returncode == (
                host.name != "h0"
            )

    @pytest.mark.parametrize("folder", ["/run", "/dev/shm", "/var/lib", "/var/spool"])
    def test_what_a_host_writes_there_no_other_sees(self, lab: Lab, folder: str) -> None:
        lab.host("h1").run("touch", f"{folder}/of-h1")
        assert lab.host("h1").path(f"{folder}/of-h1").exists()
        assert not lab.host("h2").path(f"{folder}/of-h1").exists()
        assert not Path(f"{folder}/of-h1").exists()

    def test_what_is_in_the_shared_folder_all_see(self, lab: Lab) -> None:
        lab.host("h1").run("sh", "-c", f"echo hello >{lab.plan.share}/word")
        assert lab.host("h2").run("cat", f"{lab.plan.share}/word").stdout == "hello\n"

    def test_no_two_hosts_pass_for_one_machine(self, lab: Lab) -> None:
        for path in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
            assert len({host.run("cat", path).stdout for host in lab.hosts}) == 3

    def test_gpus_of_two_hosts_have_different_names(self, lab: Lab) -> None:
        asks = "import pynvml as n; n.nvmlInit(); print(n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByIndex(0)))"
        said = [host.run(sys.executable, "-c", asks).stdout.strip() for host in lab.hosts]
        assert said == ["GPU-fake-h0-0", "GPU-fake-h1-0", "GPU-fake-h2-0"]

    def test_hosts_see_only_their_own_processes(self, lab: Lab) -> None:
        host = lab.host("h1")

        def seen() -> tuple[int, str]:
            return len(host.pids("dockerd")), host.run("pgrep", "-c", "-x", "dockerd").stdout

        # A daemon that starts a program is two of its name for a moment.
        wait_for(lambda: seen() == (1, "1\n"), what="one daemon of its own", told=lambda: str(seen()))

    def test_a_command_that_fails_says_why(self, lab: Lab) -> None:
        with pytest.raises(LabError, match=r"h1: .* ended with 3\nwhat it said"):
            lab.host("h1").run("sh", "-c", "echo what it said; exit 3")

    def test_a_command_ends_with_who_started_it(self, lab: Lab) -> None:
        argv = ("sh", "-c", "echo up; exec sleep 4711")
        with lab.host("h1").popen(*argv, stdout=subprocess.PIPE, text=True) as started:
            assert started.stdout is not None
            started.stdout.readline()
            started.kill()
        awaited("its end", lambda: lab.host("h1").pids("4711") == [])

    def test_all_reach_the_registry_the_store_and_the_other_hosts(self, lab: Lab) -> None:
        for host in lab.hosts:
            assert reaches(lab, host.name, "registry", 5000)
            assert reaches(lab, host.name, "store", 9000)
            assert reaches(lab, host.name, "h0", 6817)

    def test_a_gang_gets_three_hosts_with_gpus(self, lab: Lab) -> None:
        said = gang(lab, "sh", "-c", "echo $(hostname) $CUDA_VISIBLE_DEVICES")
        assert said == ["h0 0,1", "h1 0,1", "h2 0,1"]


@pytest.mark.fleet
@pytest.mark.docker
@pytest.mark.timeout(600)
class TestDocker:
    def test_each_host_runs_containers_of_its_own_with_its_address(self, lab: Lab) -> None:
        image = lab.base_image()
        for host in lab.hosts:
            said = host.docker(
                "run", "--rm", "--network=host", image, "python3", "-c", "import socket; print(socket.gethostname())"
            )  # fmt: skip
            assert said == host.name
        lab.host("h1").docker("run", "--detach", "--name=one", image, "sleep", "1000")
        assert lab.host("h1").docker("ps", "--format={{.Names}}") == "one"
        assert lab.host("h2").docker("ps", "--format={{.Names}}") == ""

    def test_what_one_pushes_another_pulls(self, lab: Lab) -> None:
        name = f"{lab.registry.address}/base:1"
        lab.host("h1").docker("tag", lab.base_image(), name)
        lab.host("h1").docker("push", "--quiet", name)
        lab.host("h2").docker("pull", "--quiet", name)
        lab.registry.kill()
        lab.host("h2").docker("rmi", name)
        with pytest.raises(RuntimeError, match="refused"):
            lab.host("h2").docker("pull", name)
        lab.registry.start()
        lab.host("h2").docker("pull", "--quiet", name)

    def test_a_lab_made_new_has_no_containers(self, lab: Lab) -> None:
        lab.host("h1").docker("run", "--detach", "--restart=always", lab.base_image(), "sleep", "1000")
        lab.renew()
        assert lab.host("h1").docker("ps", "--all", "--quiet") == ""
        assert lab.host("h1").pids("sleep") != lab.host("h1").pids("1000")
        assert lab.host("h1").docker("image", "ls", "--quiet") != ""


@pytest.mark.fleet
class TestFaults:
    def test_a_cut_host_reaches_nobody_until_it_is_mended(self, lab: Lab) -> None:
        lab.host("h1").cut()
        assert lab.status()["h1"]["state"] == "cut off"
        assert not reaches(lab, "h1", "registry", 5000)
        assert reaches(lab, "h2", "registry", 5000)
        lab.host("h1").mend()
        awaited("the network", lambda: reaches(lab, "h1", "registry", 5000))
        lab.ready()
        assert gang(lab, "hostname") == ["h0", "h1", "h2"]

    def test_a_host_that_went_off_has_its_disk_and_nothing_else_when_it_is_back(self, lab: Lab) -> None:
        host = lab.host("h1")
        before = host.run("cat", "/proc/sys/kernel/random/boot_id").stdout
        host.run("touch", "/run/gone", "/dev/shm/gone", "/var/lib/kept", f"{host.state}/kept")
        began_s = time.monotonic()
        host.off()
        assert lab.status()["h1"]["state"] == "off"
        assert processes_of(lab.folder / "h1") == []
        with pytest.raises(LabError, match="h1 is off"):
            host.run("true")
        lab.boot("h1")
        said = host.run(
            "ls", "/run/gone", "/dev/shm/gone", "/var/lib/kept", f"{host.state}/kept", check=False
        ).stdout
        assert said.split() == [f"{host.state}/kept", "/var/lib/kept"]
        assert host.run("cat", "/proc/sys/kernel/random/boot_id").stdout != before
        uptime_s = float(host.run("cat", "/proc/uptime").stdout.split()[0])
        assert uptime_s < time.monotonic() - began_s + 1  # A host's clock starts at a whole second.
        assert gang(lab, "hostname") == ["h0", "h1", "h2"]

    def test_peers_of_a_host_that_goes_off_hear_nothing(self, lab: Lab) -> None:
        """A machine without power says no goodbye, so a connection to it stays open."""
        waits = (
            "import socket\n"
            "peer = socket.create_connection(('h1', 4711)); print('connected', flush=True); peer.settimeout(2)\n"
            "try: print('closed', peer.recv(1))\nexcept TimeoutError: print('silence')\n"
        )
        listens = (
            "import socket, time\n"
            "s = socket.create_server(('', 4711)); print('up', flush=True); c, _ = s.accept(); time.sleep(99)\n"
        )
        with lab.host("h1").popen(
            sys.executable, "-c", listens, stdout=subprocess.PIPE, text=True
        ) as listener:
            assert listener.stdout is not None
            listener.stdout.readline()
            with lab.host("h2").popen(sys.executable, "-c", waits, stdout=subprocess.PIPE, text=True) as peer:
                assert peer.stdout is not None
                assert peer.stdout.readline() == "connected\n"
                lab.host("h1").off()
                assert peer.stdout.readline() == "silence\n"

    def test_a_host_that_was_off_at_first_joins(self, lab: Lab) -> None:
        assert [host.name for host in lab.hosts] == ["h0", "h1", "h2"]
        lab.boot("h3")
        assert gang(lab, "hostname", hosts=4) == ["h0", "h1", "h2", "h3"]

    @pytest.mark.parametrize("name", ["slurmd", "munged", "dockerd"])
    def test_a_daemon_is_killed_and_started_again(self, lab: Lab, name: str) -> None:
        host = lab.host("h1")
        assert host.kill(name) >= 1
        wait_for(lambda: host.pids(name) == [], what="its end")
        assert lab.host("h2").pids(name) != []
        host.start(name)
        assert len(host.pids(name)) >= 1
        assert host.docker("ps", "--quiet") == ""
        assert gang(lab, "hostname") == ["h0", "h1", "h2"]

    def test_a_slurmctld_that_was_killed_knows_its_nodes_again(self, lab: Lab) -> None:
        assert lab.head.kill("slurmctld") >= 1
        lab.head.start("slurmctld")
        lab.ready()
        assert gang(lab, "hostname") == ["h0", "h1", "h2"]

    def test_a_full_disk_is_that_of_one_host(self, lab: Lab) -> None:
        host = lab.host("h1")
        writes = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('x' * 5000)"
        host.fill()
        for path in (f"{host.state}/x", f"{host.home}/x", "/var/lib/x"):
            assert (
                "No space left on device" in host.run(sys.executable, "-c", writes, path, check=False).stderr
            )
        assert host.run(sys.executable, "-c", writes, "/run/x").returncode == 0
        assert lab.host("h2").run(sys.executable, "-c", writes, "/var/lib/x").returncode == 0
        host.empty()
        assert host.run(sys.executable, "-c", writes, f"{host.state}/x").returncode == 0

    def test_a_disk_can_be_nearly_full(self, lab: Lab) -> None:
        host = lab.host("h1")
        host.fill(left_mib=20)
        left = int(host.run("df", "--output=avail", "-BM", str(host.disk)).stdout.split()[-1].rstrip("M"))
        assert 15 <= left <= 20

    def test_a_busy_store_answers_503_until_it_is_well(self, lab: Lab) -> None:
        status = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).status)"
        argv = (sys.executable, "-c", status, lab.store.endpoint)
        lab.store.busy()
        assert lab.status()["store"]["state"] == "busy"
        assert "HTTP Error 503" in lab.host("h1").run(*argv, check=False).stderr
        lab.store.well()
        assert lab.host("h1").run(*argv).stdout == "200\n"
        assert lab.store.uri().startswith("s3://")


@pytest.mark.fleet
class TestEnds:
    @pytest.fixture
    def needed(self, lab_session: Lab) -> None:
        """Skips where there can be no lab."""

    @pytest.fixture
    def verb(self, needed: None, tmp_path: Path) -> Iterator[Callable[..., str]]:
        folder = tmp_path / "lab"

        def run(verb: str, *argv: str) -> str:
            command = [sys.executable, "-m", "tests.lab", verb, "--folder", str(folder), *argv]
            return subprocess.run(
                command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=150
            ).stdout

        yield run
        if (folder / "lab.json").exists():
            run("down")

    def test_nothing_is_left_of_a_lab_that_went_down(self, verb: Callable[..., str], tmp_path: Path) -> None:
        verb("up", "--hosts", "2", "--docker")
        slot = Plan.load(tmp_path / "lab").slot
        assert left_of(slot) != []
        assert verb("exec", "h1", "--", "hostname") == "h1\n"
        assert "h1" in verb("status")
        verb("off", "h1")
        verb("down")
        gone(tmp_path / "lab", slot)
        verb("down")

    def test_a_lab_that_died_takes_nothing_from_the_next_of_its_number(
        self, needed: None, tmp_path: Path
    ) -> None:
        first = Lab.up(tmp_path / "first", hosts=1, gpus=0, slurm="none", docker=False)
        process = first.fabric.process
        assert process is not None
        process.kill()
        wait_for(lambda: not process.alive, what="the end of the first")
        second = Lab.up(tmp_path / "second", hosts=1, gpus=0, slurm="none", docker=False)
        try:
            first.down()
            assert second.registry.answers()
            assert second.plan.label in "".join(left_of(second.plan.slot))
        finally:
            second.down()

    def test_who_is_not_root_is_told_what_to_type(self, needed: None, tmp_path: Path) -> None:
        nobody = ("setpriv", "--reuid", "65534", "--clear-groups", sys.executable)
        command = [*nobody, "-m", "tests.lab", "up", "--folder", str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"error: a lab needs root: sudo {sys.executable} -m tests.lab up …\n"

    def test_two_labs_do_not_meet(self, verb: Callable[..., str], lab_session: Lab, tmp_path: Path) -> None:
        verb("up", "--hosts", "1", "--slurm", "none")
        other = Lab.open(tmp_path / "lab")
        assert other.plan.network != lab_session.plan.network
        assert other.head.pids("slurmd") == []
        assert not reaches(other, "h0", "h0", 6817)

    def test_a_lab_ends_with_the_session_that_owns_it(self, needed: None, tmp_path: Path) -> None:
        folder = tmp_path / "lab"
        makes = (
            "import pathlib, sys, time; from tests.lab import Lab\n"
            "lab = Lab.up(pathlib.Path(sys.argv[1]), hosts=1); print('up', flush=True); time.sleep(99)"
        )
        command = [sys.executable, "-c", makes, str(folder)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as session:
            assert session.stdout is not None
            assert session.stdout.readline() == "up\n"
            lab = Lab.open(folder)
            process = lab.head.process
            assert isinstance(process, Process)
            session.send_signal(signal.SIGKILL)
        awaited("the end of the lab", lambda: not process.alive)
        lab.down()
        gone(folder, lab.plan.slot)
