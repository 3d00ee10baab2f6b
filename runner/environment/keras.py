"""Prints the requirement of the tf_keras that belongs to the TensorFlow of the interpreter that runs this
file.

TF_USE_LEGACY_KERAS makes TensorFlow take Keras 2 from tf_keras, which has the same minor version. It is
installed without its dependencies: it requires the package `tensorflow`, also where that is `tensorflow-cpu`.
"""

import sys


def requirement() -> str:
    """`tf_keras==MAJOR.MINOR.*`; empty without a TensorFlow."""
    # Slow to import, for those who want no more than the path of this file.
    from importlib.metadata import PackageNotFoundError, version

    for name in ("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tf-nightly"):
        try:
            return f"tf_keras=={'.'.join(version(name).split('.')[:2])}.*"
        except PackageNotFoundError:
            continue
    return ""


if __name__ == "__main__":
    sys.stdout.write(requirement())
    sys.exit(0 if requirement() else "error: legacy_keras: no TensorFlow among the packages")
