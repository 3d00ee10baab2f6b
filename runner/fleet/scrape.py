"""Hosts with an agent -> what each says of its GPUs at this moment, asked side by side; who does not answer is told."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ANSWERS_WITHIN_S = 2.0
AT_ONCE = 64
MOST_BYTES = 8 * 2**20
_GPU = "pushtrain_gpu_"


@dataclass(frozen=True, kw_only=True)
class Card:
    """A GPU at this moment; None where it is not known. `utilization` is a share of 1, `slot` Slurm's number of it.

    `runs` are those that have it. `fault` says what is wrong with it, empty where it is well.
    """

    uuid: str
    model: str
    index: int
    slot: int | None = None
    memory_bytes: int | None = None
    used_bytes: int | None = None
    utilization: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    runs: tuple[str, ...] = ()
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a host said. `trouble` says why it did not, empty where it did; `version` is its agent's."""

    cards: tuple[Card, ...] = ()
    version: str = ""
    daemons_down: tuple[str, ...] = ()
    disk_free_bytes: int | None = None
    trouble: str = ""


def ask(
    agents: Mapping[str, tuple[str, int]], *, token: str, within_s: float = ANSWERS_WITHIN_S
) -> dict[str, Answer]:
    """What each host says, by its name; `agents` are addresses and ports. Takes little longer than `within_s`."""
    if not agents:
        return {}
    with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(agents))) as pool:
        asked = {
            name: pool.submit(_one, *place, token=token, within_s=within_s) for name, place in agents.items()
        }
        return {name: future.result() for name, future in asked.items()}


def version(place: tuple[str, int], *, token: str, within_s: float = ANSWERS_WITHIN_S) -> str:
    """What the agent at an address and port says of its versions; empty where it does not, or is too old to."""
    return _said(place, "version", token=token, within_s=within_s)


def settings(place: tuple[str, int], *, token: str, within_s: float = ANSWERS_WITHIN_S) -> str:
    """What the agent at an address and port says of its fleet's settings; empty as for `version`."""
    return _said(place, "settings", token=token, within_s=within_s)


def _said(place: tuple[str, int], path: str, *, token: str, within_s: float) -> str:
    try:
        return _read(place, path, token=token, within_s=within_s)
    except urllib.error.HTTPError as error:
        error.close()
    except (OSError, http.client.HTTPException):
        pass
    return ""


def _read(place: tuple[str, int], path: str, *, token: str, within_s: float) -> str:
    address, port = place
    host = f"[{address}]" if ":" in address else address
    question = urllib.request.Request(
        f"http://{host}:{port}/{path}", headers={"Authorization": f"Bearer {token}"}
    )
    # Hosts of the fleet are never asked through a proxy, which would see the token; nor is a redirection followed.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    with opener.open(question, timeout=within_s) as answer:
        return str(answer.read(MOST_BYTES).decode(errors="replace"))


def _one(address: str, port: int, *, token: str, within_s: float) -> Answer:
    try:
        return parse(_read((address, port), "metrics", token=token, within_s=within_s))
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 401:
            return Answer(trouble="it has another token: is it of another fleet?")
        return Answer(trouble=f"it answers {error.code}")
    except TimeoutError:
        return Answer(trouble=f"no answer within {within_s:g} s")
    except urllib.error.URLError as error:
        return Answer(trouble=_reason(error.reason, within_s))
    except (OSError, ValueError) as error:
        return Answer(trouble=f"no answer: {error}")


def _reason(reason: object, within_s: float) -> str:
    if isinstance(reason, TimeoutError):
        return f"no answer within {within_s:g} s"
    if isinstance(reason, ConnectionRefusedError):
        return "no agent answers there"
    return f"no answer: {getattr(reason, 'strerror', None) or reason}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Nowhere else."""


def parse(text: str) -> Answer:
    """An agent's metrics. Raises ValueError for what is no text of Prometheus."""
    from prometheus_client.parser import text_string_to_metric_families

    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    by_name: dict[str, list[tuple[dict[str, str], float]]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    figures = {
        (name.removeprefix(_GPU), labels["uuid"]): value
        for name, rows in by_name.items()
        for labels, value in rows
        if name.startswith(_GPU) and set(labels) == {"uuid"}
    }
    runs = _by_uuid(by_name.get(f"{_GPU}job", ()), "run")
    faults = _by_uuid(by_name.get(f"{_GPU}fault_info", ()), "fault")
    cards = (
        _card(labels, figures, runs=runs.get(labels["uuid"], ()), faults=faults.get(labels["uuid"], ()))
        for labels, _ in by_name.get(f"{_GPU}info", ())
    )
    driver = by_name.get("pushtrain_gpu_driver_up", [({}, 1.0)])
    free = by_name.get("pushtrain_disk_free_bytes")
    return Answer(
        cards=tuple(sorted(cards, key=lambda card: (card.index, card.uuid))),
        version=next((labels["version"] for labels, _ in by_name.get("pushtrain_agent_info", ())), ""),
        daemons_down=tuple(
            labels["daemon"] for labels, up in by_name.get("pushtrain_daemon_up", ()) if not up
        ),
        disk_free_bytes=int(free[0][1]) if free else None,
        trouble="" if driver[0][1] else "its NVIDIA driver does not answer: nvidia-smi",
    )


def _by_uuid(rows: Iterable[tuple[dict[str, str], float]], label: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for labels, _ in rows:
        found[labels["uuid"]] = (*found.get(labels["uuid"], ()), labels[label])
    return found


def _card(
    labels: dict[str, str],
    figures: Mapping[tuple[str, str], float],
    *,
    runs: tuple[str, ...],
    faults: tuple[str, ...],
) -> Card:
    uuid = labels["uuid"]
    total, used = figures.get(("memory_total_bytes", uuid)), figures.get(("memory_used_bytes", uuid))
    return Card(
        uuid=uuid,
        model=labels["model"],
        index=int(labels["index"]),
        slot=int(labels["slot"]) if labels.get("slot") else None,
        memory_bytes=None if total is None else int(total),
        used_bytes=None if used is None else int(used),
        utilization=figures.get(("utilization_ratio", uuid)),
        temperature_c=figures.get(("temperature_celsius", uuid)),
        power_w=figures.get(("power_watts", uuid)),
        runs=runs,
        fault="; ".join(faults),
    )
