"""A small network and a loop of one's own. SHARE: ddp, zero, or nothing. The first weights are those of rank 0."""

import os

import torch
from torch import distributed, nn

rank = int(os.environ["PUSHTRAIN_RANK"])
share = os.environ.get("SHARE", "")
torch.manual_seed(0)
model: nn.Module = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))
if share:
    distributed.init_process_group("gloo")
    model = nn.parallel.DistributedDataParallel(model)
if share == "zero":
    from torch.distributed.optim import ZeroRedundancyOptimizer

    optimizer = ZeroRedundancyOptimizer(model.parameters(), optimizer_class=torch.optim.Adam, lr=0.01)
else:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
torch.manual_seed(rank)
x, y = torch.randn(1024, 16), torch.randint(0, 4, (1024,))
for first in range(0, 1024, 32):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x[first : first + 32]), y[first : first + 32]).backward()
    optimizer.step()
print("sum", sum(float(each.sum()) for each in model.parameters()), flush=True)
if share:
    distributed.destroy_process_group()
