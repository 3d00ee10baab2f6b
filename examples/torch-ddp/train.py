"""A network of one hidden layer on 1,797 handwritten digits, by DistributedDataParallel -> outputs/model.pt, logs/."""

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 10
OUTPUTS, LOGS = Path("outputs"), Path("logs")
CHECKPOINT = "newest.pt"


def build() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def batches(data: TensorDataset) -> DataLoader:
    return DataLoader(data, 32, shuffle=True, drop_last=True, generator=torch.Generator().manual_seed(1))


def train_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader) -> torch.Tensor:
    """Return the mean loss of this rank's batches."""
    losses = []
    for pixels, digits in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(pixels), digits)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).mean()


def accuracy(model: nn.Module, pixels: torch.Tensor, digits: torch.Tensor) -> float:
    with torch.inference_mode():
        return float((model(pixels).argmax(dim=1) == digits).float().mean())


def digest(model: nn.Module) -> str:
    weights = b"".join(weight.numpy(force=True).tobytes() for weight in model.state_dict().values())
    return hashlib.sha256(weights).hexdigest()[:12]


def resume(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Return the epochs already done: rank 0 reads its newest checkpoint, all get the same."""
    newest = Path(os.environ.get("PUSHTRAIN_RESUME_FROM", OUTPUTS / "checkpoints")) / CHECKPOINT
    found = [torch.load(newest) if dist.get_rank() == 0 and newest.is_file() else None]
    dist.broadcast_object_list(found)
    if found[0] is None:
        return 0
    model.load_state_dict(found[0]["model"])
    optimizer.load_state_dict(found[0]["optimizer"])
    return int(found[0]["epoch"])


def save(model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> None:
    """Written beside and renamed: whoever is killed meanwhile leaves the checkpoint before."""
    folder = OUTPUTS / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    state = {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, folder / "unfinished.pt")
    (folder / "unfinished.pt").replace(folder / CHECKPOINT)


def train_alone(mine: TensorDataset, rate: float) -> nn.Module:
    """What the other ranks' gradients are good for: the network after as many steps without them."""
    model, loader = build(), batches(mine)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    for _ in range(EPOCHS):
        train_epoch(model, optimizer, loader)
    return model


def report(epoch: int, loss: float, right: float) -> None:
    LOGS.mkdir(exist_ok=True)
    with (LOGS / "metrics.jsonl").open("w" if epoch == 1 else "a") as metrics:
        print(json.dumps({"step": epoch, "loss": loss, "accuracy": right}), file=metrics)
    print(f"epoch {epoch:2d}  loss {loss:.4f}  test accuracy {right:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    rate = parser.parse_args().learning_rate
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()

    digits = load_digits()
    pixels = torch.tensor(digits.data / 16.0, dtype=torch.float32)
    train_x, test_x, train_y, test_y = train_test_split(
        pixels, torch.tensor(digits.target), test_size=0.2, random_state=1
    )
    # In the order of the digits: a rank sees only some of them, and learns the others from the other ranks.
    shard = train_y.argsort(stable=True).tensor_split(size)[rank][: len(train_y) // size]
    mine = TensorDataset(train_x[shard], train_y[shard])

    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    done = resume(model, optimizer)
    shared, loader, losses = DistributedDataParallel(model), batches(mine), []
    for epoch in range(done + 1, EPOCHS + 1):
        loss = train_epoch(shared, optimizer, loader)
        dist.all_reduce(loss)
        losses.append(float(loss) / size)
        if rank == 0:
            report(epoch, losses[-1], accuracy(model, test_x, test_y))
            save(model, optimizer, epoch)

    print(f"rank {rank}: weights {digest(model)}", flush=True)
    digests = [""] * size
    # DDP's own group outlives its end: a thread of it that still held these tensors while Python ends would abort the
    # process, see https://github.com/pytorch/pytorch/pull/179291. A group of their own takes its threads along.
    dist.all_gather_object(digests, digest(model), group=dist.new_group())
    dist.destroy_process_group()
    if len(set(digests)) > 1:
        sys.exit("the ranks ended with different weights")
    if len(losses) > 1 and losses[-1] >= losses[0]:
        sys.exit(f"the loss has not fallen: {losses[0]:.4f}, then {losses[-1]:.4f}")
    if rank > 0:
        return
    torch.save(model.state_dict(), OUTPUTS / "model.pt")
    alone = train_alone(mine, rate)
    if size > 1 and digest(alone) == digests[0]:
        sys.exit("rank 0 got no gradient of another rank")
    print(
        f"all {size} ranks agree: weights {digests[0]}, accuracy {accuracy(model, test_x, test_y):.4f}\n"
        f"rank 0 alone would have: weights {digest(alone)}, accuracy {accuracy(alone, test_x, test_y):.4f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
