"""What finds a rank for `jax.distributed.initialize()` without arguments, on a JAX as small as can be."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

import runner

INSIDE = Path(runner.__file__).parent / "host/inside/python/pushtrain_jax.py"


class Cluster:
    """As in jax/_src/clusters/cluster.py: a subclass enters itself."""

    _cluster_types: ClassVar[list[type[Cluster]]] = []

    def __init_subclass__(cls) -> None:
        cls._cluster_types.append(cls)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> list[type[Cluster]]:
    class Slurm(Cluster):
        name = "slurm"

    class Older(Cluster):
        pass

    clusters = ModuleType("jax._src.clusters")
    monkeypatch.setattr(Cluster, "_cluster_types", [Slurm, Older])
    clusters.__dict__["ClusterEnv"] = Cluster
    monkeypatch.setitem(sys.modules, "jax._src.clusters", clusters)
    return Cluster._cluster_types


def inside() -> ModuleType:
    spec = spec_from_file_location("pushtrain_jax", INSIDE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_jax_asks_us_first_and_knows_us_once(known: list[type[Cluster]]) -> None:
    module = inside()
    assert module.register()
    assert [each.__name__ for each in known] == ["PushtrainCluster", "Slurm", "Older"]


def test_a_rank_is_found_by_its_variables(
    known: list[type[Cluster]], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside()
    found: Any = known[0]
    for name, value in (("COORDINATOR_ADDRESS", "10.0.0.1:9"), ("NUM_PROCESSES", "4"), ("PROCESS_ID", "3")):
        monkeypatch.setenv(f"JAX_{name}", value)
    assert found.is_env_present()
    assert found.get_coordinator_address(timeout_secs=9, override_coordinator_port=None) == "10.0.0.1:9"
    assert (found.get_process_count(), found.get_process_id()) == (4, 3)
    assert found.get_local_process_id() is None
    monkeypatch.delenv("JAX_NUM_PROCESSES")
    assert not found.is_env_present()


def test_a_jax_of_another_make_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax._src.clusters", ModuleType("jax._src.clusters"))
    assert not inside().register()
