"""Which types of GPU Slurm is asked for, where several types are of the model that a run wants."""

from __future__ import annotations

import pytest

from runner.errors import NoCapacity
from runner.place import Gang
from runner.slurm import kinds, labels
from runner.slurm.kinds import Kinds, chosen
from runner.slurm.nodes import Node, read
from tests.engines.project import wait_for
from tests.lab import Lab

A40, A80, T4 = "nvidia_a100_sxm4_40gb", "nvidia_a100_sxm4_80gb", "tesla_t4"


def host(name: str, kind: str, *features: str, gpus: int = 4) -> Node:
    said = f"NodeName={name} NodeAddr={name} CPUTot=8 RealMemory=9 State=IDLE Gres=gpu:{kind}:{gpus} "
    (node,) = read(said + f"AvailableFeatures={','.join(('pushtrain', *features))}")
    return node


def gang(model: str | None, **changes: object) -> Gang:
    return Gang(**{"nodes": 1, "gpus_per_node": 2, "gpu_model": model, **changes})  # type: ignore[arg-type]  # of Gang


FLEET = tuple(host(f"h{at}", kind, labels.of_gpu(kind)) for at, kind in enumerate((A40, A80, T4)))
PLAIN = tuple(host(f"h{at}", kind) for at, kind in enumerate((A40, A80, T4)))


@pytest.mark.parametrize("known", [FLEET, PLAIN])
@pytest.mark.parametrize(
    ("model", "kind"), [("t4", T4), ("a100-80gb", A80), (A40, A40), (None, None), ("tesla t4", T4)]
)
def test_a_model_that_one_type_has_is_asked_for_by_that_type(
    known: tuple[Node, ...], model: str | None, kind: str | None
) -> None:
    assert chosen(gang(model), known) == Kinds(gres_type=kind)


def test_a_model_that_several_types_have_is_asked_for_by_the_features_of_their_hosts() -> None:
    assert chosen(gang("a100"), FLEET) == Kinds(features=(f"gpu__{A40}", f"gpu__{A80}"))
    assert chosen(gang("a100"), (*FLEET[:1], PLAIN[1])) == Kinds(gres_type=A40)


def test_where_no_host_carries_its_type_a_model_of_several_is_refused_with_their_names() -> None:
    with pytest.raises(NoCapacity, match=f"a100 may be any of {A40}, {A80}") as caught:
        chosen(gang("a100"), PLAIN)
    assert "resources.gpu" in caught.value.tip


@pytest.mark.parametrize("known", [FLEET[2:], ()])
def test_a_model_that_no_host_has_now_is_refused_and_never_left_open(known: tuple[Node, ...]) -> None:
    with pytest.raises(
        NoCapacity, match=r"no host has 2 GPUs of the model a100 now; there are: (tesla_t4|none)"
    ):
        chosen(gang("a100"), known)


def test_a_type_of_which_there_are_too_few_hosts_is_not_asked_for() -> None:
    third = host("h3", A80, labels.of_gpu(A80))
    assert chosen(gang("a100", nodes=2), (*FLEET, third)) == Kinds(gres_type=A80)
    assert chosen(gang("a100", nodes=2, min_nodes=1), FLEET) == chosen(gang("a100"), FLEET)


def test_hosts_that_are_enough_only_with_those_of_another_type_are_refused_with_what_there_is() -> None:
    for known in (FLEET, PLAIN):
        with pytest.raises(
            NoCapacity, match=f"2 hosts .* of one type, .*there are: 1 of {A40}, 1 of {A80}$"
        ) as caught:
            chosen(gang("a100", nodes=2), known)
        assert "resources.nodes in train.yml to 1 " in caught.value.tip


def test_a_gang_of_a_model_that_each_host_has_in_another_size_is_refused_with_the_sizes() -> None:
    sizes = ("A100-SXM4-80GB", "A100-SXM4-40GB")
    for marks in ((), tuple(map(labels.of_gpu, sizes))):
        known = tuple(host(f"h{at}", size, *marks[at : at + 1], gpus=2) for at, size in enumerate(sizes))
        with pytest.raises(
            NoCapacity, match=r"there are: 1 of A100-SXM4-40GB, 1 of A100-SXM4-80GB$"
        ) as caught:
            chosen(gang("A100", nodes=2, gpus_per_node=1), known)
        assert caught.value.exit_code == 71


def test_a_type_that_too_few_hosts_carry_is_asked_for_by_its_name() -> None:
    more = (host("h3", A40), host("h4", A80))
    assert chosen(gang("a100", nodes=2), (*FLEET, *more)) == Kinds(gres_type=A40)


def test_only_hosts_that_the_gang_can_have_count() -> None:
    known = (host("h0", A40, "pool_lab"), host("h1", A80), host("h2", "a100", "pool_lab", gpus=1))
    assert chosen(gang("a100", labels=(("pool", "lab"),)), known) == Kinds(gres_type=A40)


def test_a_type_that_is_called_as_the_model_is_meant_though_others_are_called_so_as_well() -> None:
    assert chosen(gang("a100"), (host("h0", "a100"), host("h1", "a100_80gb"))) == Kinds(gres_type="a100")


def test_another_model_than_was_asked_for_is_found_unless_the_cluster_calls_it_so() -> None:
    assert kinds.wrong(gang("a100"), ("NVIDIA A100-SXM4-40GB", "Tesla T4"), (A40, T4)) == "Tesla T4"
    assert kinds.wrong(gang("a100"), ("NVIDIA A100-SXM4-40GB", ""), ()) == ""
    assert kinds.wrong(gang("big"), ("Tesla T4",), ("big",)) == ""
    assert kinds.wrong(gang("big"), ("Tesla T4",), ()) == "Tesla T4"


def test_a_constraint_is_understood_as_it_is_written() -> None:
    text = labels.constraint(("pool_lab",), (labels.of_gpu(A40), labels.of_gpu(A80)))
    assert text == f"pool_lab&[gpu__{A40}|gpu__{A80}]"
    assert labels.satisfied(text, ("pool_lab", f"gpu__{A80}"))
    assert not labels.satisfied(text, ("pool_lab", f"gpu__{T4}"))
    assert not labels.satisfied(text, (f"gpu__{A80}",))
    assert labels.satisfied("", ())
    assert labels.alternatives(text) == (f"pool_lab&gpu__{A40}", f"pool_lab&gpu__{A80}")
    assert [labels.alternatives(each) for each in ("", "a|b", "pool_lab")] == [("",), ("a|b",), ("pool_lab",)]
    assert labels.satisfied("a|b", ())
    assert [labels.named(each) for each in text.split("&")] == ["pool: lab", f"{A40} or {A80}"]
    assert labels.label(labels.of_gpu("tesla_t4")) is None
    assert labels.label(labels.of_gpu("v100")) is None


@pytest.mark.fleet
def test_slurm_gives_all_hosts_of_a_job_one_of_the_types_and_keeps_to_the_labels(lab: Lab) -> None:
    """What its manual says of `[a|b]`, together with other features, is not said in so many words."""

    def carries(name: str, *features: str) -> None:
        text = ",".join(("pushtrain", *features))
        words = (f"NodeName={name}", f"AvailableFeatures={text}", f"ActiveFeatures={text}")
        lab.head.run("scontrol", "update", *words)

    def given(nodes: int, *features: str) -> set[str]:
        """The hosts of a job, none where Slurm says that there are none such. (`--test-only` overlooks brackets.)"""
        wanted = labels.constraint(features, (labels.of_gpu(A40), labels.of_gpu(A80)))
        asked = (
            "--parsable",
            "--output=/dev/null",
            "--gres=gpu:2",
            f"--nodes={nodes}",
            f"--constraint={wanted}",
        )
        job = lab.head.run("sbatch", *asked, "--wrap=sleep 300", check=False).stdout.strip()
        if not job:
            return set()
        there = ("squeue", "--noheader", f"--jobs={job}", "--states=RUNNING", "--format=%N")
        wait_for(lambda: lab.head.run(*there).stdout.strip(), what="the start of a job", within_s=90)
        names = lab.head.run("scontrol", "show", "hostnames", lab.head.run(*there).stdout.strip()).stdout
        lab.head.run("scancel", job)
        gone = ("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")
        wait_for(lambda: "CANCELLED" in lab.head.run(*gone).stdout, what="its end", within_s=90)
        return set(names.split())

    carries("h0", "pool_lab", labels.of_gpu(A80))
    carries("h1", "pool_lab", labels.of_gpu(A40))
    carries("h2", labels.of_gpu(A80))
    try:
        assert given(2) == {"h0", "h2"}
        assert given(1, "pool_lab") < {"h0", "h1"}
        assert given(2, "pool_lab") == set()
        assert given(3) == set()
        carries("h2", "pool_lab", labels.of_gpu(T4))
        carries("h0", "pool_lab", labels.of_gpu(T4))
        assert given(1) == given(1, "pool_lab") == {"h1"}
    finally:
        for name in ("h0", "h1", "h2"):
            carries(name)
