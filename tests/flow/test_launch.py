"""Plan and reservation -> the processes of a gang, held against files that a person has read."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from runner.launch import LAUNCHERS, Process, mpi, patient
from runner.place import Reservation, Slot
from tests.flow import made

GOLDEN = Path(__file__).with_name("golden")
CLUSTER = "{type: tensorflow, workers: 2, parameter_servers: 1, chief: true}"


def reservation(nodes: int, *, gpus: int = 0, ports: int = 3, cpus: float = 8.0) -> Reservation:
    """Nodes with a host each."""
    return Reservation(
        slots=tuple(
            Slot(
                node_rank=node,
                host=f"host{node}",
                address=f"10.0.0.{node + 1}",
                gpus=tuple(f"GPU-{node}-{n}" for n in range(gpus)),
                cpus=cpus,
                ports=tuple(range(20000, 20000 + ports)),
            )
            for node in range(nodes)
        ),
        interface="eth1",
    )


def on_one_machine(nodes: int, *, gpus: int = 0) -> Reservation:
    """As the engine local has it: every node has an address of the loopback interface."""
    slots = reservation(nodes, gpus=gpus).slots
    return Reservation(
        slots=tuple(replace(s, host="desk", address=f"127.0.100.{100 + s.node_rank}") for s in slots)
    )


def in_containers(nodes: int, *, gpus: int = 0) -> Reservation:
    """As the engine docker has it: every node has a name in the run's own network."""
    slots = reservation(nodes, gpus=gpus).slots
    return Reservation(
        slots=tuple(replace(s, host="desk", address=f"node-{s.node_rank}") for s in slots), interface="eth0"
    )


def text(distribution: str, resources: str = "{nodes: 2}") -> str:
    return made.PLAIN + f"resources: {resources}\ndistribution: {distribution}\n"


GANGS = {
    "one-process": (made.PLAIN, reservation(1, ports=0)),
    "two-nodes-of-two": (text("{type: none, processes_per_node: 2}"), reservation(2)),
    "two-nodes-with-gpus": (
        text("{type: none, processes_per_node: 2}", "{nodes: 2, gpu: 4}"),
        reservation(2, gpus=4),
    ),
    "more-processes-than-gpus": (
        text("{type: none, processes_per_node: 2}", "{gpu: 1}"),
        reservation(1, gpus=1),
    ),
    "mpi-in-containers": (text("{type: mpi, processes_per_node: 2}"), in_containers(2)),
    "mpi-on-one-machine": (
        text("{type: mpi, processes_per_node: 2, timeline: true}"),
        on_one_machine(2),
    ),
    "mpi-on-own-hosts-with-gpus": (
        text("{type: mpi, processes_per_node: 2}", "{nodes: 2, gpu: 2, cpu: 8}"),
        reservation(2, gpus=2),
    ),
    "tensorflow-workers": (text("{type: tensorflow, workers: 4}"), on_one_machine(2, gpus=2)),
    "tensorflow-parameter-server": (
        text(CLUSTER, "{nodes: 2, gpu: 2}"),
        in_containers(2, gpus=2),
    ),
    "tensorflow-with-evaluator": (
        text("{type: tensorflow, workers: 2, chief: true, evaluator: true}", "{nodes: 2, gpu: 2}"),
        reservation(2, gpus=2),
    ),
    "torch": (text("{type: torch, processes_per_node: 2}"), on_one_machine(2)),
    "torch-elastic-with-gpus": (text("torch", "{nodes: 1..2, gpu: 2, cpu: 6}"), reservation(2, gpus=2)),
    "jax": (
        text("{type: jax, processes_per_node: 2}", "{nodes: 2, gpu: 2}"),
        in_containers(2, gpus=2),
    ),
}


def processes(name: str) -> tuple[Process, ...]:
    return made_of(*GANGS[name])


def made_of(train_yml: str, slots: Reservation) -> tuple[Process, ...]:
    plan = made.plan(train_yml)
    return LAUNCHERS[plan.distribution.type](plan, slots)


def ranks(name: str) -> tuple[Process, ...]:
    return tuple(each for each in processes(name) if each.kind != "launcher")


def launchers(name: str) -> tuple[Process, ...]:
    return tuple(each for each in processes(name) if each.kind == "launcher")


def mpirun(train_yml: str, slots: Reservation) -> list[str]:
    (launcher,) = (each for each in made_of(train_yml, slots) if each.kind == "launcher")
    return list(launcher.argv)


def after(argv: list[str] | tuple[str, ...], option: str) -> str:
    return argv[argv.index(option) + 1]


@pytest.mark.parametrize("name", GANGS)
def test_processes_are_those_of_the_golden_file(name: str) -> None:
    """After a change that is meant, write what is shown here to the file and read it."""
    shown = json.dumps([asdict(process) for process in processes(name)], indent=1, sort_keys=True) + "\n"
    assert shown == (GOLDEN / f"{name}.json").read_text()


# All kinds


@pytest.mark.parametrize(
    "name", [name for name in GANGS if name.startswith(("two", "mpi", "tens", "tor", "jax"))]
)
def test_ranks_are_numbered_node_by_node_and_each_is_there_once(name: str) -> None:
    assert [(p.rank, p.node_rank, p.local_rank) for p in ranks(name)] == [
        (0, 0, 0),
        (1, 0, 1),
        (2, 1, 0),
        (3, 1, 1),
    ]


@pytest.mark.parametrize("name", GANGS)
def test_every_rank_is_told_what_it_is(name: str) -> None:
    for process in ranks(name):
        numbers = [process.env[f"PUSHTRAIN_{each}"] for each in ("RANK", "LOCAL_RANK", "NODE_RANK")]
        assert numbers == [str(process.rank), str(process.local_rank), str(process.node_rank)]
        per_node = int(process.env["PUSHTRAIN_PROCESSES_PER_NODE"])
        assert int(process.env["PUSHTRAIN_NODES"]) * per_node == int(process.env["PUSHTRAIN_WORLD_SIZE"])
        assert len(process.env["PUSHTRAIN_NODE_ADDRESSES"].split(",")) == int(process.env["PUSHTRAIN_NODES"])
        assert "CUDA_VISIBLE_DEVICES" in process.env


@pytest.mark.parametrize("name", GANGS)
def test_processes_have_numbers_of_their_own_with_launchers_after_the_ranks(name: str) -> None:
    assert [each.rank for each in processes(name)] == list(range(len(processes(name))))
    assert {each.kind for each in ranks(name)} <= {"direct"} or launchers(name)


@pytest.mark.parametrize("name", GANGS)
def test_the_training_itself_is_on_no_command_line_of_a_launcher(name: str) -> None:
    for process in processes(name):
        says_it = any("python train.py" in word for word in process.argv)
        assert says_it == (process.kind != "launcher")


@pytest.mark.parametrize("name", GANGS)
def test_no_address_is_given_out_twice(name: str) -> None:
    """The chief's is for the training, so no launcher and no framework listens there."""
    chiefs = {each.env.get("PUSHTRAIN_CHIEF") for each in processes(name)}
    assert len(chiefs) == 1
    (chief,) = chiefs
    for process in processes(name):
        others = [value for key, value in process.env.items() if key != "PUSHTRAIN_CHIEF"]
        assert chief is None or not any(chief in word for word in (*others, *process.argv))


def test_where_no_ports_are_known_there_is_no_chief_to_reach() -> None:
    (process,) = processes("one-process")
    assert "PUSHTRAIN_CHIEF" not in process.env


@pytest.mark.parametrize("name", ["two-nodes-with-gpus", "jax", "tensorflow-workers"])
def test_no_gpu_is_given_to_two_ranks_while_there_is_one_for_each(name: str) -> None:
    given = [p.env["CUDA_VISIBLE_DEVICES"].split(",") for p in ranks(name)]
    flat = [gpu for mine in given for gpu in mine]
    assert all(flat)
    assert len(flat) == len(set(flat)) == sum(len(slot.gpus) for slot in GANGS[name][1].slots)


@pytest.mark.parametrize("name", ["mpi-on-own-hosts-with-gpus", "torch-elastic-with-gpus"])
def test_ranks_that_choose_a_gpu_by_their_local_rank_see_all_of_their_node(name: str) -> None:
    for process in processes(name):
        seen = process.env["CUDA_VISIBLE_DEVICES"]
        assert seen == f"GPU-{process.node_rank}-0,GPU-{process.node_rank}-1"


@pytest.mark.parametrize("name", ["mpi-in-containers", "tensorflow-workers", "torch", "jax"])
def test_collectives_take_the_interface_of_the_reservation(name: str) -> None:
    interface = GANGS[name][1].interface
    for process in ranks(name):
        assert process.env["GLOO_SOCKET_IFNAME"] == interface
        assert process.env["NCCL_SOCKET_IFNAME"] == f"={interface}"


@pytest.mark.parametrize("kind", ["mpi", "torch", "jax", "tensorflow"])
def test_a_rank_that_is_alone_is_told_of_no_interface(kind: str) -> None:
    (alone,) = (each for each in made_of(text(kind, "{nodes: 1}"), reservation(1)) if each.kind != "launcher")
    assert not any("SOCKET_IFNAME" in name for name in alone.env)


def test_a_shell_waits_for_the_training_that_it_runs() -> None:
    assert patient(("/bin/sh", "-c", "python train.py")) == (
        "/bin/sh",
        "-c",
        "trap 'c=$?; exit $((c ? c : 143))' TERM; python train.py",
    )
    assert patient(("python", "train.py")) == ("python", "train.py")


def test_there_is_a_launcher_for_every_kind_that_a_file_may_name() -> None:
    kinds = ("none", "mpi", "tensorflow", "torch", "jax")
    assert tuple(LAUNCHERS) == kinds
    assert [made.plan(text(kind, "{nodes: 1}")).distribution.type for kind in kinds] == list(kinds)


# MPI


@pytest.mark.parametrize(
    ("slots", "names"),
    [
        (in_containers(3), ("node-0", "node-1", "node-2")),
        (on_one_machine(3), ("desk", "node-1", "node-2")),
        (reservation(2), ("host0", "node-1")),
    ],
)
def test_mpirun_knows_its_own_host_and_the_agent_every_other(
    slots: Reservation, names: tuple[str, ...]
) -> None:
    assert mpi.node_names(slots) == names


def test_a_run_that_has_its_hosts_to_itself_is_bound_to_their_cpus() -> None:
    argv = mpirun(*GANGS["mpi-on-own-hosts-with-gpus"])
    assert after(argv, "--map-by") == "ppr:2:node:PE=4"
    assert "mpi_yield_when_idle" not in argv


@pytest.mark.parametrize("cpu", ["", ", cpu: 4"])
def test_a_run_beside_others_is_bound_to_nothing(cpu: str) -> None:
    argv = mpirun(text("{type: mpi, processes_per_node: 2}", f"{{nodes: 2{cpu}}}"), reservation(2))
    assert (after(argv, "--map-by"), after(argv, "--bind-to")) == ("ppr:2:node", "none")
    assert "mpi_yield_when_idle" not in argv


@pytest.mark.parametrize(("nodes", "cpus"), [(2, 1.0), (1, 2.0)])
def test_ranks_without_a_cpu_each_yield_while_they_wait(nodes: int, cpus: float) -> None:
    train_yml = text("{type: mpi, processes_per_node: 3}", f"{{nodes: {nodes}}}")
    assert "mpi_yield_when_idle" in mpirun(train_yml, reservation(nodes, cpus=cpus))


@pytest.mark.parametrize(("nodes", "flat"), [(64, False), (65, True)])
def test_no_node_starts_another_however_many_there_are(nodes: int, flat: bool) -> None:
    argv = mpirun(text("mpi", f"{{nodes: {nodes}}}"), reservation(nodes))
    assert ("plm_rsh_no_tree_spawn" in argv) == flat
    assert ("orte_leave_session_attached" in argv) == flat
    if flat:
        assert after(argv, "plm_rsh_no_tree_spawn") == after(argv, "orte_leave_session_attached") == "1"


def test_mpirun_kills_no_rank_that_still_may_save() -> None:
    argv = mpirun(text("mpi") + "timeout: {grace: 45}\n", reservation(2))
    assert after(argv, "odls_base_sigkill_timeout") == "55"


def test_horovod_writes_a_timeline_into_the_logs_on_request_alone() -> None:
    asked = {each.env.get("HOROVOD_TIMELINE") for each in ranks("mpi-on-one-machine")}
    assert asked == {"logs/horovod-timeline.json"}
    assert not any("HOROVOD_TIMELINE" in each.env for each in processes("mpi-in-containers"))


# TensorFlow


def tf_config(process: Process) -> dict[str, dict[str, list[str]]]:
    config: dict[str, dict[str, list[str]]] = json.loads(process.env["TF_CONFIG"])
    return config


def test_every_task_knows_the_same_cluster_and_its_own_place_in_it() -> None:
    ranked = ranks("tensorflow-parameter-server")
    assert [each.task for each in ranked] == ["chief 0", "worker 0", "worker 1", "ps 0"]
    tasks = [tf_config(each)["task"] for each in ranked]
    assert [f"{each['type']} {each['index']}" for each in tasks] == [each.task for each in ranked]
    (cluster,) = {json.dumps(tf_config(each)["cluster"]) for each in ranked}
    assert json.loads(cluster) == {
        "chief": ["node-0:20000"],
        "worker": ["node-0:20001", "node-1:20000"],
        "ps": ["node-1:20001"],
    }


def test_the_run_lasts_as_long_as_the_chief_of_parameter_servers() -> None:
    assert [each.task for each in ranks("tensorflow-parameter-server") if each.awaited] == ["chief 0"]


def test_the_run_lasts_as_long_as_all_workers_but_not_for_the_evaluator() -> None:
    ranked = ranks("tensorflow-with-evaluator")
    assert [each.task for each in ranked if each.awaited] == ["chief 0", "worker 0", "worker 1"]
    assert "evaluator" not in tf_config(ranked[0])["cluster"]
    assert tf_config(ranked[-1])["task"] == {"type": "evaluator", "index": 0}


def test_tasks_that_do_not_compute_leave_the_gpus_to_those_that_do() -> None:
    seen = {each.task: each.env["CUDA_VISIBLE_DEVICES"] for each in ranks("tensorflow-parameter-server")}
    assert seen == {
        "chief 0": "",
        "worker 0": "GPU-0-0,GPU-0-1",
        "worker 1": "GPU-1-0,GPU-1-1",
        "ps 0": "",
    }
    evaluated = {each.task: each.env["CUDA_VISIBLE_DEVICES"] for each in ranks("tensorflow-with-evaluator")}
    assert evaluated["chief 0"] == "GPU-0-0"
    assert evaluated["evaluator 0"] == ""


# torchrun


def test_one_torchrun_alone_is_the_meeting_point() -> None:
    argvs = [each.argv for each in launchers("torch")]
    assert [after(argv, "--rdzv-conf") for argv in argvs] == ["is_host=1", "is_host=0"]
    assert {after(argv, "--rdzv-endpoint") for argv in argvs} == {"127.0.100.100:20000"}
    assert [after(argv, "--local-addr") for argv in argvs] == ["127.0.100.100", "127.0.100.101"]


def test_only_an_elastic_gang_goes_on_without_its_lost_nodes() -> None:
    fixed, elastic = launchers("torch")[0].argv, launchers("torch-elastic-with-gpus")[0].argv
    assert (after(fixed, "--nnodes"), after(fixed, "--max-restarts")) == ("2", "0")
    assert (after(elastic, "--nnodes"), after(elastic, "--max-restarts")) == ("1:2", "3")
    assert not any(each.restartable for each in processes("torch"))
    assert all(each.restartable for each in ranks("torch-elastic-with-gpus"))


def test_ranks_share_the_cpus_of_their_host_or_of_their_node() -> None:
    assert {each.env["OMP_NUM_THREADS"] for each in launchers("torch")} == {"2"}  # 8 for 4 ranks
    assert {each.env["OMP_NUM_THREADS"] for each in launchers("torch-elastic-with-gpus")} == {"3"}  # 6 for 2
    argv = made_of(text("{type: torch, processes_per_node: 16}", "{nodes: 1}"), reservation(1))
    assert argv[-1].env["OMP_NUM_THREADS"] == "1"


# JAX


def test_jax_meets_at_rank_0() -> None:
    ranked = ranks("jax")
    assert {each.env["JAX_COORDINATOR_ADDRESS"] for each in ranked} == {"node-0:20000"}
    assert {each.env["JAX_NUM_PROCESSES"] for each in ranked} == {"4"}
    assert [each.env["JAX_PROCESS_ID"] for each in ranked] == ["0", "1", "2", "3"]
