"""The files of a model and its framework -> the lines of Python that load it, as far as their names tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import PurePosixPath


@dataclass(frozen=True, kw_only=True)
class Loading:
    """Lines of Python, and a sentence of Markdown (empty where there is nothing to say)."""

    lines: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class _Format:
    """Files of one kind: `{path}` in `lines` is the file, or its folder where `folder`.

    `frameworks` are those whose files have that name, lower case; empty where the name is enough.
    """

    pattern: str
    lines: tuple[str, ...]
    frameworks: tuple[str, ...] = ()
    folder: bool = False
    note: str = ""


_KERAS = ("import keras", "model = keras.models.load_model({path})")
_RUNS_CODE = "Loading it runs code that is in the file: verify it first."
_SKLEARN = ("sklearn", "scikit-learn")

# The more exact come first.
_FORMATS = (
    _Format(
        pattern="saved_model.pb",
        folder=True,
        lines=("import tensorflow as tf", "model = tf.saved_model.load({path})"),
    ),
    _Format(pattern="*.keras", lines=_KERAS),
    _Format(pattern="*.h5", lines=_KERAS, frameworks=("tensorflow", "keras")),
    _Format(
        pattern="*.tflite",
        lines=("import tensorflow as tf", "model = tf.lite.Interpreter(model_path={path})"),
    ),
    _Format(pattern="*.onnx", lines=("import onnxruntime", "model = onnxruntime.InferenceSession({path})")),
    _Format(
        pattern="*.safetensors",
        lines=("from safetensors.numpy import load_file", "weights = load_file({path})"),
        note="These are the weights alone; the code that made the model is in the commit.",
    ),
    *(
        _Format(
            pattern=pattern,
            lines=("import torch", 'weights = torch.load({path}, map_location="cpu", weights_only=True)'),
            note="`weights_only=True` loads weights and runs no code; the code of the model is in the commit.",
        )
        for pattern in ("*.pt", "*.pth")
    ),
    *(
        _Format(
            pattern=pattern,
            lines=("import xgboost", "model = xgboost.Booster(model_file={path})"),
            frameworks=("xgboost",),
        )
        for pattern in ("*.ubj", "*.json", "*.bst")
    ),
    _Format(
        pattern="*.txt",
        lines=("import lightgbm", "model = lightgbm.Booster(model_file={path})"),
        frameworks=("lightgbm",),
    ),
    _Format(
        pattern="*.cbm",
        lines=("from catboost import CatBoost", "model = CatBoost().load_model({path})"),
    ),
    _Format(pattern="*.skops", lines=("import skops.io", "model = skops.io.load({path})")),
    _Format(pattern="*.joblib", lines=("import joblib", "model = joblib.load({path})"), note=_RUNS_CODE),
    *(
        _Format(
            pattern=pattern,
            lines=("import joblib", "model = joblib.load({path})"),
            frameworks=_SKLEARN,
            note=_RUNS_CODE,
        )
        for pattern in ("*.pkl", "*.pickle")
    ),
    *(
        _Format(
            pattern=pattern,
            lines=("import pickle", 'model = pickle.load(open({path}, "rb"))'),
            note=_RUNS_CODE,
        )
        for pattern in ("*.pkl", "*.pickle")
    ),
    *(
        _Format(pattern=pattern, lines=("import numpy", "weights = numpy.load({path})"))
        for pattern in ("*.npz", "*.npy")
    ),
)


def loading(paths: Sequence[str], framework: str | None, *, folder: str) -> Loading | None:
    """How to load the model whose files lie in `folder`; None where their names do not tell.

    Of several files of one kind the one nearest to the top is taken. Pure.
    """
    nearest = sorted(paths, key=lambda path: (path.count("/"), path))
    for form in _FORMATS:
        if form.frameworks and (framework or "").lower() not in form.frameworks:
            continue
        for path in nearest:
            if fnmatch(PurePosixPath(path).name, form.pattern):
                return _filled(form, PurePosixPath(folder, path))
    return None


def _filled(form: _Format, path: PurePosixPath) -> Loading:
    literal = repr(str(path.parent if form.folder else path))
    return Loading(lines=tuple(line.replace("{path}", literal) for line in form.lines), note=form.note)
