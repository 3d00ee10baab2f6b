"""What of TensorFlow, Keras and Horovod goes together -> a run refused with the nearest that works, or a note. Pure.

The tables hold what was built and run: TensorFlow 2.15 to 2.21 under Python 3.11, Horovod 0.28.1, Open MPI 4.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from runner.environment import requirements

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

Use = Literal["horovod", "tensorflow"]

HOROVOD = "0.28.1"
RECOMMENDED = "tensorflow-cpu==2.15.1"
TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tf-nightly", "tf-nightly-cpu")
# The first TensorFlow whose tf.keras is Keras 3.
KERAS_3 = (2, 16)
_OF_INTEREST = (*TENSORFLOWS, "keras", "tf-keras", "horovod", "torch")
_TRUE = ("1", "true", "True")  # as TensorFlow reads TF_USE_LEGACY_KERAS


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What Keras 3 does to one way of sharing gradients: `fails` without a cure, and where it `works` all the same.

    `limits` is what stays to be minded with Keras 2 under a newer TensorFlow.
    """

    fails: str
    works: str
    limits: str = ""


KERAS_3_RULES: Mapping[Use, Rule] = {
    "horovod": Rule(
        fails="Keras 3 with Horovod trains separate models in silence: model.fit shares no gradient between ranks, "
        "and each rank's loss falls all the same",
        works="the training itself shares the gradients of plain tf.Variables, without model.fit",
        limits="import horovod.tensorflow.keras; horovod.keras, MetricAverageCallback and LearningRateWarmupCallback "
        "take Keras 3 all the same",
    ),
    "tensorflow": Rule(
        fails="model.fit of Keras 3 fails under MultiWorkerMirroredStrategy and ParameterServerStrategy "
        "(https://github.com/keras-team/keras/issues/20585)",
        works="the training has a loop of its own, or a ClusterCoordinator",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Stack:
    """What matters of the packages. `tensorflow` is how it was named or found, such as `train.yml:4: tensorflow==2.18`.

    `keras_3` is whether its Keras is certainly Keras 3; `tf_keras` whether Keras 2 is there besides.
    """

    tensorflow: str = ""
    keras_3: bool = False
    tf_keras: bool = False
    horovod: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`refused` says why not, with its tip, where the run is refused; else `notes` are for people to read."""

    refused: str = ""
    tip: str = ""
    notes: tuple[str, ...] = ()


def named(
    lines: Sequence[str], constraints: Sequence[str], *, python: str, places: Mapping[str, str], horovod: bool
) -> Stack:
    """The stack of requirement lines; what no line decides counts as harmless."""
    limits: dict[str, SpecifierSet] = {}
    for _, limit in requirements.packages(constraints, python=python):
        name = canonical(limit.name)
        limits[name] = limits[name] & limit.specifier if name in limits else limit.specifier
    stack = Stack(horovod=horovod)
    found = tuple(requirements.packages(lines, python=python))
    names = {canonical(each.name) for _, each in found}
    for line, each in found:
        name = canonical(each.name)
        if name in TENSORFLOWS:
            both = each.specifier & limits[name] if name in limits else each.specifier
            if not stack.tensorflow or _needs_keras_3(both):
                text = f"{places.get(line, 'environment.pip')}: {line}"
                stack = Stack(tensorflow=text, keras_3=_needs_keras_3(both), horovod=horovod)
    return Stack(
        tensorflow=stack.tensorflow,
        keras_3=stack.keras_3,
        tf_keras="tf-keras" in names,
        horovod=horovod or "horovod" in names,
    )


def installed(versions: Mapping[str, str], *, where: str) -> Stack:
    """The stack of packages that are there: canonical name -> version."""
    from packaging.version import InvalidVersion, Version

    name = next((each for each in TENSORFLOWS if each in versions), "")
    try:
        keras_3 = bool(name) and _has_keras_3(Version(versions[name]))
    except InvalidVersion:
        keras_3 = False
    return Stack(
        tensorflow=f"{where}: {name} {versions[name]}" if name else "",
        keras_3=keras_3,
        tf_keras="tf-keras" in versions,
        horovod="horovod" in versions,
    )


def of_interest(names: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Of (name, version) those that `installed` looks at, by canonical name."""
    known = {canonical(name): version for name, version in names}
    return {name: known[name] for name in _OF_INTEREST if name in known}


def judge(
    stack: Stack, *, distribution: str, legacy_keras: bool | None, env: Mapping[str, str], own_image: bool
) -> Verdict:
    """Whether `stack` can train on several ranks. `own_image`: the user made the image, so only they can change it."""
    use: Use | None = "tensorflow" if distribution == "tensorflow" else None
    if stack.horovod and (distribution == "mpi" or not own_image):
        use = "horovod"
    if use is None or not stack.keras_3:
        return Verdict()
    rule = KERAS_3_RULES[use]
    if legacy_keras or (stack.tf_keras and env.get("TF_USE_LEGACY_KERAS") in _TRUE):
        return Verdict(notes=(f"legacy_keras: {rule.limits}",) if rule.limits else ())
    if legacy_keras is False:
        return Verdict(
            notes=(f"environment.legacy_keras is false: {rule.fails}; it works where {rule.works}",)
        )
    return Verdict(refused=f"{stack.tensorflow}: {rule.fails}", tip=_cure(rule, own_image=own_image))


def _cure(rule: Rule, *, own_image: bool) -> str:
    first = "environment.legacy_keras: true (Keras 2 under that TensorFlow)"
    if own_image:
        first = 'install tf_keras in the image and set env: {TF_USE_LEGACY_KERAS: "1"}'
    return f"{first}, or {RECOMMENDED}; or environment.legacy_keras: false, where {rule.works}"


def exact(specifier: SpecifierSet) -> str | None:
    """The one version that `==` names, None for anything looser."""
    pins = [each.version for each in specifier if each.operator in ("==", "===")]
    return pins[0] if pins and not pins[0].endswith(".*") else None


def canonical(name: str) -> str:
    """A package's name as the index compares it."""
    from packaging.utils import canonicalize_name

    return str(canonicalize_name(name))


def _has_keras_3(version: Version) -> bool:
    return version.release[:2] >= KERAS_3


def _needs_keras_3(specifier: SpecifierSet) -> bool:
    """Whether every TensorFlow that fits has Keras 3: an exact version says so, or no earlier release fits."""
    from packaging.version import InvalidVersion, Version

    pin = exact(specifier)
    try:
        if pin is not None:
            return _has_keras_3(Version(pin))
    except InvalidVersion:
        return False
    earlier = (f"{major}.{minor}.{patch}" for major, minor in _BEFORE for patch in range(6))
    return not any(specifier.contains(version, prereleases=True) for version in earlier)


_BEFORE = tuple((1, minor) for minor in range(16)) + tuple((2, minor) for minor in range(KERAS_3[1]))
