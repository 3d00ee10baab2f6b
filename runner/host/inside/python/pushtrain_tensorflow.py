"""TensorFlow, when it is imported -> sketches of what is trained, after 1, 2, 4, 8, ... steps and at the end.

A function that calls `GradientTape.gradient` while TensorFlow traces it is one that trains, and each of its calls is a
step: the `fit` of Keras 2 and 3 and custom loops alike, whichever optimizer they have. Without `tf.function` each call
of `gradient` is a step. Not seen: graphs and sessions of TensorFlow 1, Estimators, gradients taken in the threads of a
`tf.distribute` strategy, Keras on JAX. What `tf.function` repeats within one call counts as one step.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref

import pushtrain_weights as weights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Calls(threading.local):
    """The function of this thread that was called while nothing else ran in a graph."""

    outermost: Any = None


_calls = _Calls()
_eager: dict[Any, Any] = {}
_functions: dict[int, tuple[Any, weights.Watched]] = {}
"""By the id of a function: a weak reference to it, and what it trains. Attributes of a function would be pickled."""


def watch(module: Any, path: str) -> None:
    """Hook into `module`, which is TensorFlow's module of functions, or that of gradients."""
    if hasattr(module, "GradientTape"):
        _watch_tapes(module.GradientTape, module.context, path)
    if hasattr(module, "Function"):
        _watch_functions(module.Function)


def _watch_functions(kind: Any) -> None:
    call = kind.__call__

    @functools.wraps(call)
    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _calls.outermost is not None:
            return call(self, *args, **kwargs)
        _calls.outermost = self
        try:
            answer = call(self, *args, **kwargs)
        finally:
            _calls.outermost = None
        seen = _functions.get(id(self))
        if seen is not None and seen[0]() is self:
            seen[1].updated()
        return answer

    kind.__call__ = watched


def _watch_tapes(kind: Any, context: Any, path: str) -> None:
    gradient = kind.gradient

    @functools.wraps(gradient)
    def watched(self: Any, target: Any, sources: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            if not context.executing_eagerly():
                _traced(sources, path)
            elif isinstance(sources, (list, tuple)) and sources:
                _called(sources, path)
        except Exception:
            pass
        return gradient(self, target, sources, *args, **kwargs)

    kind.gradient = watched


def _traced(sources: Any, path: str) -> None:
    function = _calls.outermost
    variables = _variables(sources)
    if function is None or not variables or _is_known(function):
        return
    seen = _new(getattr(function, "__name__", "function"), variables, path)
    _functions[id(function)] = weakref.ref(function), seen


def _is_known(function: Any) -> bool:
    seen = _functions.get(id(function))
    return seen is not None and seen[0]() is function


def _called(sources: Any, path: str) -> None:
    """Count a call outside of any function. It comes before the update, so it tells of the one before."""
    key = (len(sources), id(sources[0]), id(sources[-1]))
    if key in _eager:
        if _eager[key] is not None:
            _eager[key].updated()
    elif len(_eager) < 1000:
        variables = _variables(sources)
        _eager[key] = _new("gradient", variables, path) if variables else None


def _variables(sources: Any) -> list[Any]:
    """The variables of floating point among the sources of a gradient, in their order."""
    flat = sys.modules["tensorflow"].nest.flatten(sources)
    return [each for each in flat if hasattr(each, "assign") and "float" in str(each.dtype)]


def _new(kind: str, variables: list[Any], path: str) -> weights.Watched:
    held = [weakref.ref(variable) for variable in variables]
    size = sum(_size(variable) for variable in variables)
    what = ("tensorflow", kind, size)
    return weights.Watched(what, path, lambda: _sketch([reference() for reference in held]))


def _size(variable: Any) -> int:
    size = 1
    for side in variable.shape:
        size *= int(side)
    return size


def _sketch(variables: list[Any]) -> Any:
    """The 64 numbers and the sum of squares, calculated where the variables are; None where one is gone."""
    tf = sys.modules["tensorflow"]
    if not tf.executing_eagerly() or any(variable is None for variable in variables):
        return None
    total, squares = tf.zeros(weights.BUCKETS), tf.zeros(())
    for variable in variables:
        flat = tf.cast(tf.reshape(tf.convert_to_tensor(variable), [-1]), tf.float32)[: weights.LARGEST]
        size = int(flat.shape[0])
        even = size - size % weights.BUCKETS
        total += tf.reduce_sum(tf.reshape(flat[:even], [-1, weights.BUCKETS]), 0)
        total += tf.pad(flat[even:], [[0, weights.BUCKETS - (size - even)]])
        squares += 2 * tf.nn.l2_loss(flat)
    return [float(number) for number in total.numpy()], float(squares.numpy())
