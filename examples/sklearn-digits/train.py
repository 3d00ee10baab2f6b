"""Logistic regression on 1,797 handwritten digits -> outputs/model.joblib, logs/metrics.jsonl."""

import argparse
import json
import warnings
from pathlib import Path

import joblib
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, log_loss
from sklearn.model_selection import train_test_split

ROUNDS = 20
ITERATIONS_PER_ROUND = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--regularization", type=float, default=0.01, help="strength of the L2 penalty, above 0"
    )
    regularization = parser.parse_args().regularization

    digits = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        digits.data / 16.0, digits.target, test_size=0.2, stratify=digits.target, random_state=0
    )
    # Each round goes on where the last one stopped, so that there is a curve to look at.
    model = LogisticRegression(C=1.0 / regularization, max_iter=ITERATIONS_PER_ROUND, warm_start=True)
    warnings.simplefilter("ignore", ConvergenceWarning)

    outputs, logs = Path("outputs"), Path("logs")
    outputs.mkdir(exist_ok=True)
    logs.mkdir(exist_ok=True)
    with (logs / "metrics.jsonl").open("w") as metrics:
        for step in range(1, ROUNDS + 1):
            model.fit(train_x, train_y)
            row = {
                "step": step,
                "accuracy": model.score(test_x, test_y),
                "loss": log_loss(train_y, model.predict_proba(train_x)),
            }
            print(json.dumps(row), file=metrics, flush=True)
            if step == 1 or step % 5 == 0:
                print(
                    f"round {step:2d}  loss {row['loss']:.4f}  test accuracy {row['accuracy']:.4f}",
                    flush=True,
                )

    joblib.dump(model, outputs / "model.joblib")
    matrix = confusion_matrix(test_y, model.predict(test_x))
    table = "\n".join(" ".join(f"{count:3d}" for count in row) for row in matrix)
    (outputs / "confusion.txt").write_text(f"rows: the digit, columns: what was read, 0 to 9\n{table}\n")


if __name__ == "__main__":
    main()
