"""Shows the silent failure of Horovod on Keras 3, and that it is noticed.

`python -m tests.inside.silent_keras3 PYTHON`, where PYTHON has
TensorFlow 2.16 or later, tf_keras of the same minor version and Horovod; mpirun is on PATH.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.inside.watched import TRAININGS, train


def main(python: Path) -> int:
    """0 if Keras 3 is found to share nothing, and legacy Keras to share; else 1."""
    silent, legacy = (
        train(python, TRAININGS / "keras_fit.py", Path(folder), env=env, mpi=True)
        for env in ({"SHARE": "horovod"}, {"SHARE": "horovod", "TF_USE_LEGACY_KERAS": "1"})
        for folder in [tempfile.mkdtemp()]
    )
    for name, seen in (("Keras 3", silent), ("legacy Keras", legacy)):
        found = seen.divergence()
        print(f"{name}: {found.message if found else 'the ranks agree'}")
        print(f"  {found.tip if found else sorted({each.step for each in seen.reports[1]})}")
        print("  " + "\n  ".join(line for line in seen.output.splitlines() if "sum" in line))
    return 0 if silent.divergence() and not legacy.divergence() else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
