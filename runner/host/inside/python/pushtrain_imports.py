"""Name of a module -> a function called once, with the module, after somebody else has imported it."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # Importing `typing` takes longer than all of this.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_waiting: dict[str, list[Callable[[Any], object]]] = {}


def when(name: str, act: Callable[[Any], object]) -> None:
    """Call `act` with the module `name` as soon as it has been imported; what `act` raises is swallowed."""
    if name in sys.modules:
        _guarded(act, sys.modules[name])
        return
    if not _waiting:
        sys.meta_path.insert(0, _Finder)
    _waiting.setdefault(name, []).append(act)


def _guarded(act: Callable[[Any], object], module: object) -> None:
    try:
        act(module)
    except Exception:
        pass


class _Finder:
    """Finds nothing itself: asks those behind it, and has their loader call back."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        """The spec that another finder gives for a module that is waited for, else None."""
        acts = _waiting.pop(name, None)
        if acts is None:
            return None
        if not _waiting:
            sys.meta_path.remove(_Finder)
        spec = _first_spec(name, path, target)
        try:
            _call_after(spec.loader, acts)
        except Exception:
            pass
        return spec


def _first_spec(name: str, path: Any, target: Any) -> Any:
    for finder in list(sys.meta_path):
        find = None if finder is _Finder else getattr(finder, "find_spec", None)
        spec = find(name, path, target) if find else None
        if spec is not None:
            return spec
    return None


def _call_after(loader: Any, acts: list[Callable[[Any], object]]) -> None:
    """Have this one loader call `acts` once; it keeps its class, so that all else that asks it gets its answers."""
    load = loader.exec_module

    def exec_module(module: Any) -> None:
        loader.__dict__.pop("exec_module", None)
        load(module)
        for act in acts:
            _guarded(act, module)

    loader.exec_module = exec_module
