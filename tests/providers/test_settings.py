"""elastic.yml: what it may say, and what is said of a file that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.agent import elastic
from runner.errors import SpecError, UsageError
from runner.providers import settings
from runner.slurm import conf
from runner.slurm.conf import Cluster

GOOD = """
idle: 10m
hosts:
  a100:
    gpu: NVIDIA A100-SXM4-40GB
    gpus: 8
    cpus: 96
    memory: 1100GiB
    labels: {pool: cloud}
    min_hosts: 1
    max_hosts: 4
    types: [p4d.24xlarge]
  cpu: {cpus: 8, memory: 30GiB, max_hosts: 2, types: [c7i.2xlarge]}
ec2:
  region: eu-central-1
  image: ami-1
  subnets: [subnet-1]
  security_groups: [sg-1]
  token: s3://fleet/join
"""


def faults(text: str) -> str:
    with pytest.raises(SpecError) as failed:
        settings.parse(text)
    return str(failed.value)


def test_what_is_left_out_has_its_default() -> None:
    read = settings.parse(GOOD)
    assert (read.idle, read.start_within, read.attempts) == (600, 900, 5)
    assert read.names == ("a100-1", "a100-2", "a100-3", "a100-4", "cpu-1", "cpu-2")


def test_a_host_is_of_the_kind_of_its_name() -> None:
    read = settings.parse(GOOD)
    assert read.kind_of("a100-4") is read.hosts["a100"]
    assert [read.kind_of(name) for name in ("a100-5", "a100-0", "a100-01", "a100", "h100-1", "")] == [
        None
    ] * 6


def test_all_faults_are_told_at_once_with_their_lines() -> None:
    wrong = GOOD.replace("idle: 10m", "idel: 10m").replace("min_hosts: 1", "min_hosts: 5")
    said = faults(wrong.replace("gpus: 8", "gpus: many"))
    assert "elastic.yml:2:1: idel: is not known (did you mean idle?)" in said
    assert "elastic.yml:6:11: hosts.a100.gpus: 'many' cannot be used; expected a whole number" in said


def test_what_does_not_fit_together_is_told_beside_what_is_wrong_by_itself() -> None:
    wrong = GOOD.replace("idle: 10m", "idel: 10m").replace("min_hosts: 1", "min_hosts: 5")
    wrong = wrong.replace("    gpu: NVIDIA A100-SXM4-40GB\n", "").replace(", types: [c7i.2xlarge]", "")
    said = faults(wrong.replace("ec2:", "command: {start: a, stop: b}\nec2:"))
    for each in (
        "idel: is not known",
        "hosts.a100.min_hosts: 5 is more than max_hosts",
        "hosts.a100.gpu: is missing",
        "hosts.cpu.types: is missing",
        "command: more than one provider",
        "command.list: is missing",
    ):
        assert each in said


def test_the_programs_have_to_be_on_the_head(tmp_path: Path) -> None:
    file = tmp_path / "given.yml"
    commands = 'command: {start: /nope 1, stop: ./here, list: "sh \'x"}'
    file.write_text(f"hosts: {{a: {{cpus: 1, memory: 1GiB, max_hosts: 1}}}}\n{commands}\n")
    with pytest.raises(SpecError) as failed:
        elastic.keep(file, tmp_path)
    said = str(failed.value)
    assert "given.yml:2:18: command.start: /nope is not on this machine" in said
    assert (
        "command.stop: ./here is none from the folder where it runs; expected a path that begins with /"
        in said
    )
    assert "command.list: " in said
    assert "each quote closed" in said
    file.write_text(file.read_text().replace(commands, "command: {start: sh a, stop: sh b, list: sh c}"))
    assert elastic.keep(file, tmp_path) == elastic.kept(tmp_path)


def test_a_file_that_is_not_there_is_said_with_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--elastic /nope\.yml: there is no such file") as failed:
        elastic.keep(Path("/nope.yml"), tmp_path)
    assert "--elastic FILE" in failed.value.tip


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("min_hosts: 1", "min_hosts: 5", "hosts.a100.min_hosts: 5 is more than max_hosts"),
        ("    gpus: 8\n", "", "hosts.a100.gpus: is missing; expected how many GPUs"),
        ("types: [p4d.24xlarge]", "types: []", "hosts.a100.types: is missing; expected machine types"),
        ("subnets: [subnet-1]", "subnets: []", "ec2.subnets: is an empty list"),
        ("s3://fleet/join", "https://fleet/join", "ec2.token: 'https://fleet/join' cannot be used"),
        ("ec2:", "command: {start: a, stop: b, list: c}\nec2:", "more than one provider"),
        (
            "s3://fleet/join",
            "s3://b/j",
            "ec2.token: 'b' is no name of a bucket; expected 3 to 63 small letters",
        ),
        ("s3://fleet/join", "s3://fleet/j n", "ec2.token: 'j n' cannot be used; expected letters, digits"),
        (
            "memory: 30GiB",
            "memory: 1",
            "hosts.cpu.memory: 1 bytes are too few for a host; expected at least 512MiB",
        ),
        ("  a100:", "  A100:", "small letters, digits and -"),
    ],
)
def test_what_does_not_fit_is_said(old: str, new: str, said: str) -> None:
    assert said in faults(GOOD.replace(old, new))


def test_a_file_without_a_provider_is_refused() -> None:
    assert "no provider; expected either ec2: or command:" in faults(GOOD[: GOOD.index("ec2:")])


def test_slurm_is_told_of_hosts_that_are_not_there_and_spares_those_that_nobody_starts() -> None:
    read = settings.parse(GOOD)
    power = elastic.conf_power(read, run=Path("/run/pushtrain"))
    text = conf.slurm_conf(
        Cluster(name="c", head="h", address="10.0.0.1", power=power), run=Path("/run/pushtrain")
    )
    lines = text.splitlines()
    assert "SuspendExcNodes=a100-[1-4]:1" in lines
    assert not [line for line in lines if line.startswith("SuspendTime=")], "it would stop every idle host"
    assert "NodeSet=elastic Feature=elastic" in lines
    assert "SuspendTime=600 ResumeTimeout=900 SuspendTimeout=120" in text
    assert elastic.gres_lines(read) == (
        "NodeName=a100-[1-4] Name=gpu Type=nvidia_a100_sxm4_40gb File=/dev/nvidia[0-7]\n"
    )
    assert elastic.node_words(read.hosts["a100"]) == (
        "CPUs=96",
        "RealMemory=1126400",
        "Gres=gpu:nvidia_a100_sxm4_40gb:8",
        "Feature=pushtrain,elastic,pool_cloud,gpu__nvidia_a100_sxm4_40gb",
        "State=CLOUD",
    )
