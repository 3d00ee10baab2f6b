from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.slurm import conf, labels
from runner.slurm.conf import Cluster, Power

GOLDEN = Path(__file__).parent / "golden"
RUN = Path("/run/pushtrain")
YARD = Cluster(name="yard", head="gpu1", address="10.0.0.1")


def golden(name: str, text: str) -> None:
    """Compare with what is kept; REGOLDEN=1 keeps it anew."""
    if os.environ.get("REGOLDEN"):
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text()


def test_the_slurm_conf_of_a_fleet_is_this() -> None:
    text = conf.slurm_conf(YARD, run=RUN, epilog=RUN / "epilog", health=RUN / "health")
    golden("slurm.conf", text)


def test_the_slurm_conf_of_a_fleet_that_grows_is_this() -> None:
    power = Power(
        resume_program="/run/pushtrain/resume",
        suspend_program="/run/pushtrain/suspend",
        suspend_time_s=600,
        resume_timeout_s=900,
    )
    text = conf.slurm_conf(Cluster(name="yard", head="gpu1", address="10.0.0.1", power=power), run=RUN)
    golden("slurm-elastic.conf", text)


def test_no_setting_stands_there_twice() -> None:
    names = [line.partition("=")[0] for line in conf.slurm_conf(YARD, run=RUN).splitlines()]
    once = [name for name in names if name not in ("PartitionName", "NodeSet")]
    assert len(once) == len(set(once))


def test_a_gres_conf_has_a_line_for_each_gpu() -> None:
    lines = "Name=gpu Type=v100 File=/dev/nvidia0\nName=gpu Type=v100 File=/dev/nvidia1\n"
    assert conf.gres_conf(lines).endswith(f"AutoDetect=off\n{lines}")


def test_a_host_says_what_it_has() -> None:
    said = conf.host_conf(
        address="10.0.0.2", cpus=8, memory_bytes=64 * 2**30, gres="gpu:v100:4", features=["pool_lab"]
    )
    assert said == "NodeAddr=10.0.0.2 CPUs=8 RealMemory=65536 Gres=gpu:v100:4 Feature=pushtrain,pool_lab"


def test_a_host_without_gpus_says_nothing_of_them() -> None:
    said = conf.host_conf(address="10.0.0.2", cpus=8, memory_bytes=2**30, gres="", features=[])
    assert said == "NodeAddr=10.0.0.2 CPUs=8 RealMemory=1024 Feature=pushtrain"


def test_a_label_reads_as_a_feature() -> None:
    assert labels.feature("pool", "lab") == "pool_lab"
    assert labels.feature("gpu-link", "sxm5") == "gpu-link_sxm5"
    assert labels.feature("my_pool", "a&b") == "my.5fpool_a.26b"


@pytest.mark.parametrize("feature", ["pushtrain", "elastic", "", "_", "a_b_c", "a.zz_b", "a&b_c"])
def test_what_stands_for_no_label_is_none(feature: str) -> None:
    assert labels.label(feature) is None


@given(st.text(min_size=1), st.text())
def test_every_label_comes_back_from_its_feature(name: str, value: str) -> None:
    if "\ud800" <= max(name + value) <= "\udfff":
        return
    assert labels.label(labels.feature(name, value)) == (name, value)
