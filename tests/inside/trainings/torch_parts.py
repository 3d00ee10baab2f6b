"""Models of which each rank holds a part: by FSDP, and by tensors that are spread over the ranks."""

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

distributed.init_process_group("gloo")
mesh = init_device_mesh("cpu", (2,))
spread = nn.Linear(16, 4)
fully_shard(spread, mesh=mesh)
whole = FullyShardedDataParallel(nn.Linear(16, 4), device_id=torch.device("cpu"))
for model in (spread, whole):
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(8, 16)).sum().backward()
        optimizer.step()
distributed.destroy_process_group()
