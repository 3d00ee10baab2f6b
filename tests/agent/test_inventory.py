"""What a host has to offer, and all that it lacks, at once."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner import gpus
from runner.agent import begin, cards, needs
from runner.agent.cards import Card
from runner.agent.inventory import Inventory, look, not_driven, read_gpus, write_gpus

FAKES = Path(__file__).parents[1] / "fakes"
GIB = 2**30
PROGRAMS = {
    "munged": "0.5.15", "slurmd": "22.05.8", "slurmctld": "22.05.8", "srun": "22.05.8", "scontrol": "", "sbatch": "",
    "squeue": "", "ip": "",
}  # fmt: skip


def card(number: int = 0, model: str = "NVIDIA H100 80GB HBM3", file: str = "/dev/null") -> Card:
    return Card(
        uuid=f"GPU-{number}",
        model=model,
        memory_bytes=80 * GIB,
        index=number,
        files=(file,),
        gres_type=cards.gres_type(model),
    )


READY = Inventory(
    hostname="gpu1",
    cpus=8,
    memory_bytes=64 * GIB,
    gpus=(card(),),
    gpu_trouble="",
    docker_version="28.2.2",
    docker_trouble="",
    docker_gpu_runtime=True,
    home="/var/lib/home",
    disk_free_bytes=500 * GIB,
    disk_total_bytes=1000 * GIB,
    kernel="6.1.0",
    boot_id="b",
    root=True,
    time_s=1_800_000_000.0,
    pushtrain_version="0.1.0",
    slurm_version="22.05.8",
    programs=PROGRAMS,
)


def printed(**environ: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "runner.agent.inventory"],
        env={**os.environ, "PYTHONPATH": str(FAKES), **environ},
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def whats(found: tuple[needs.Missing, ...]) -> list[str]:
    return [each.what for each in found]


def test_the_inventory_is_printed_as_json_with_the_gpus_as_slurm_counts_them() -> None:
    found = printed(
        FAKE_GPUS="Tesla V100-SXM2-16GB:2", FAKE_GPU_MINORS="10", PUSHTRAIN_GPU_DEVICES="/dev/tty"
    )
    assert found["gres"] == "gpu:tesla_v100_sxm2_16gb:2"
    assert found["gres_conf"] == (
        "Name=gpu Type=tesla_v100_sxm2_16gb File=/dev/tty10\n"
        "Name=gpu Type=tesla_v100_sxm2_16gb File=/dev/tty11\n"
    )


def test_a_machine_without_gpus_is_an_inventory_like_any_other(tmp_path: Path) -> None:
    found = look(tmp_path / "not" / "there")
    assert found.gpus == ()
    assert found.gres == found.gres_conf == found.gpu_trouble == ""
    assert found.cpus >= 1
    assert found.disk_total_bytes > found.disk_free_bytes > 0


def test_a_driver_that_does_not_answer_is_told_and_not_taken_for_none() -> None:
    assert "mismatch" in str(printed(FAKE_GPUS="mismatch")["gpu_trouble"])


def test_a_card_that_is_plugged_in_without_a_driver_is_told_and_not_taken_for_none(tmp_path: Path) -> None:
    devices = {
        "0000:3b:00.0": ("0x10de", "0x030200"),
        "0000:3b:00.1": ("0x10de", "0x040300"),  # Its sound.
        "0000:04:00.0": ("0x1a03", "0x030000"),  # The board's own graphics.
    }
    for name, (vendor, kind) in devices.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    assert gpus.on_bus(tmp_path) == 1
    assert gpus.on_bus(tmp_path / "none") == 0
    trouble = not_driven(1)
    assert trouble == "1 NVIDIA card is plugged in, and no driver is loaded"
    assert not_driven(0) == ""
    [told] = needs.missing(replace(READY, gpus=(), gpu_trouble=trouble), role="member")
    assert told.what == "a working NVIDIA driver"
    assert "dkms autoinstall" in told.cure
    assert "--no-gpus" in told.cure


def test_a_host_that_offers_no_gpus_needs_no_driver_for_them() -> None:
    broken = replace(READY, gpu_trouble="no driver is loaded", docker_gpu_runtime=False)
    assert needs.missing(begin.offered(broken, gpus=False), role="member") == ()
    assert begin.offered(broken, gpus=True) == broken


def test_docker_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    found = look(tmp_path)
    assert found.docker_version is None
    assert "does not answer" in found.docker_trouble


def test_a_model_is_a_type_of_letters_digits_and_underscores() -> None:
    assert cards.gres_type("NVIDIA H100 80GB HBM3") == "nvidia_h100_80gb_hbm3"
    assert cards.gres_type("NVIDIA A100-SXM4-40GB MIG 1g.5gb") == "nvidia_a100_sxm4_40gb_mig_1g_5gb"


def test_a_mig_instance_is_used_by_the_two_files_that_the_driver_numbers() -> None:
    table = "config 1\nmonitor 2\ngpu0/gi1/access 12\ngpu0/gi1/ci0/access 13\ngpu1/gi1/access 147\n"
    assert cards.mig_files(table, minor=0, instance=1, compute=0) == (
        "/dev/nvidia-caps/nvidia-cap12",
        "/dev/nvidia-caps/nvidia-cap13",
    )


def test_gpus_are_written_in_their_order_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "gpus.json"
    assert read_gpus(path) == ()
    write_gpus(path, gpus=(card(1), card(0)))
    assert read_gpus(path) == ("GPU-1", "GPU-0")
    assert json.loads(path.read_text())[0] == {
        "uuid": "GPU-1", "model": "NVIDIA H100 80GB HBM3", "memory_bytes": 80 * GIB, "index": 1,
    }  # fmt: skip


@pytest.mark.parametrize("role", ["head", "member", "client"])
def test_a_host_that_has_everything_lacks_nothing(role: needs.Role) -> None:
    assert (
        needs.missing(READY, role=role, head_slurm="22.05.3", head_pushtrain="0.1.0", clock_off_s=1.0) == ()
    )


def test_a_host_without_gpus_lacks_nothing() -> None:
    assert needs.missing(replace(READY, gpus=(), docker_gpu_runtime=False), role="member") == ()


def test_all_that_is_missing_is_told_at_once_with_how_to_get_it() -> None:
    bare = replace(
        READY, programs={}, root=False, docker_version=None, docker_trouble="Docker does not answer: No such file",
        gpus=(), gpu_trouble="Driver/library version mismatch", disk_free_bytes=GIB, slurm_version=None,
    )  # fmt: skip
    found = needs.missing(bare, role="head", clock_off_s=-400.0)
    assert whats(found) == [
        "munged, slurmctld, slurmd, scontrol, squeue, sbatch, srun, ip",
        "the right time",
        "root",
        "Docker",
        "a working NVIDIA driver",
        "5 GiB of free disk",
    ]
    text = needs.listed(found)
    assert "apt-get install --no-install-recommends iproute2 munge slurm-client slurmctld slurmd" in text
    assert "400 s behind the head's" in text
    assert "reboot: the driver's library was upgraded" in text


def test_gpus_that_docker_cannot_give_to_containers_are_told() -> None:
    assert whats(needs.missing(replace(READY, docker_gpu_runtime=False), role="member")) == [
        "the NVIDIA container toolkit"
    ]


def test_a_gpu_whose_device_file_is_absent_is_told() -> None:
    broken = replace(READY, gpus=(card(file="/dev/nvidia99"),))
    assert whats(needs.missing(broken, role="member")) == ["/dev/nvidia99"]


@pytest.mark.parametrize(
    ("role", "off_s", "well"),
    [
        ("member", 5.0, False),
        ("member", -4.0, False),
        ("member", 2.0, True),
        ("client", 20.0, True),
        ("client", 400.0, False),
    ],
)
def test_a_host_whose_launches_would_be_refused_for_its_clock_does_not_join(
    role: needs.Role, off_s: float, well: bool
) -> None:
    found = needs.missing(READY, role=role, clock_off_s=off_s)
    assert (found == ()) is well
    assert all("timedatectl set-ntp true; or: sudo apt-get install chrony" in each.cure for each in found)


@pytest.mark.parametrize(
    ("slurm", "pushtrain", "missing"),
    [
        ("23.11.4", None, ["Slurm 23.11.4"]),
        (None, "0.2.0", ["Pushtrain 0.2.0"]),
    ],
)
def test_another_version_than_the_heads_is_told(
    slurm: str | None, pushtrain: str | None, missing: list[str]
) -> None:
    assert whats(needs.missing(READY, role="member", head_slurm=slurm, head_pushtrain=pushtrain)) == missing


def test_a_slurm_that_knows_no_dynamic_nodes_is_told() -> None:
    old = replace(READY, slurm_version="21.08.5", programs={**PROGRAMS, "slurmd": "21.08.5"})
    assert whats(needs.missing(old, role="head")) == ["one version of Slurm", "Slurm 22.05 or newer"]


def test_a_client_needs_no_docker_no_root_and_no_slurmd() -> None:
    client = replace(
        READY, root=False, docker_version=None, programs={n: v for n, v in PROGRAMS.items() if n != "slurmd"}
    )
    assert needs.missing(client, role="client") == ()


class _AnHourLate(http.server.BaseHTTPRequestHandler):
    def date_time_string(self, timestamp: float | None = None) -> str:
        import time

        return super().date_time_string(time.time() - 3600)

    def do_HEAD(self) -> None:
        self.send_response(401)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def late_head() -> Iterator[int]:
    with http.server.HTTPServer(("127.0.0.1", 0), _AnHourLate) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_clock_is_compared_with_the_heads_by_its_http_server(late_head: int) -> None:
    off_s = needs.clock_off_s("127.0.0.1", late_head)
    assert off_s is not None
    assert off_s == pytest.approx(3600, abs=3)


def test_a_head_that_does_not_answer_says_nothing_of_the_clock() -> None:
    assert needs.clock_off_s("127.0.0.1", 9) is None


def readings(
    state: dict[str, object], tmp_path: Path, gpus: str = "NVIDIA H100 80GB HBM3:2"
) -> list[cards.Reading]:
    (tmp_path / "state.json").write_text(json.dumps(state))
    script = "import dataclasses, json; from runner.agent import cards; "
    script += "print(json.dumps([dataclasses.asdict(r) for r in cards.readings()]))"
    env = {
        **os.environ,
        "PYTHONPATH": str(FAKES),
        "FAKE_GPUS": gpus,
        "FAKE_GPU_STATE": f"{tmp_path}/state.json",
    }
    done = subprocess.run([sys.executable, "-c", script], env=env, check=True, capture_output=True, text=True)
    return [
        cards.Reading(**{**row, "processes": tuple(tuple(p) for p in row["processes"])})
        for row in json.loads(done.stdout)
    ]


def test_a_reading_tells_how_busy_a_gpu_is_and_with_whom(tmp_path: Path) -> None:
    busy, idle = readings(
        {"GPU-fake-0": {"processes": {"4711": 1024}, "utilization": 97, "temperature": 61, "used": 4096}},
        tmp_path,
    )
    assert (busy.utilization, busy.temperature_c, busy.used_bytes) == (0.97, 61, 4096)
    assert busy.processes == ((4711, 1024),)
    assert (idle.utilization, idle.processes, idle.fault) == (0.0, (), "")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("ecc", "uncorrectable memory errors"),
        ("failed", "replaced"),
        ("pending", "reset"),
        ("lost", "GPU is lost"),
    ],
)
def test_what_is_wrong_with_a_gpu_is_said_and_the_others_are_read_all_the_same(
    fault: str, said: str, tmp_path: Path
) -> None:
    broken, well = readings({"GPU-fake-0": {"fault": fault}}, tmp_path)
    assert said in broken.fault
    assert (well.uuid, well.fault) == ("GPU-fake-1", "")


def test_each_mig_instance_has_a_reading_of_its_own(tmp_path: Path) -> None:
    parts = readings({}, tmp_path, "NVIDIA A100-SXM4-40GB:1/1g.5gb*2")
    assert [(each.uuid, each.utilization) for each in parts] == [
        ("MIG-fake-0-0", None),
        ("MIG-fake-0-1", None),
    ]
