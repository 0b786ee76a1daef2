"""Reference for layer-wise learning rates: PyTorch's AdamW and SGD with a learning rate per layer.

    optim_groups.py GOLDENS/optim > tests/data/optim/groups.json

The network, its start, inputs and learning rates are those of the golden of the same optimiser. The
first convolution stands still for five steps and then goes at a tenth of the last one's rate.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

STILL, SHARE, STEPS = 5, 0.1, 20
folder = Path(sys.argv[1])
cases = []
for file, decay, clip in [("adamw-decay-clip.npz", 0.05, 0.02), ("sgd-nesterov.npz", 0.0005, None)]:
    data = np.load(folder / file)
    net = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.SiLU(), nn.Conv2d(6, 5, 1))
    net.load_state_dict({name: torch.from_numpy(data[f"w.0.{name}"]) for name in net.state_dict()})
    groups = [{"params": [p], "weight_decay": decay if p.ndim > 1 else 0.0, "first": name.startswith("0.")}
              for name, p in net.named_parameters()]
    adamw = file.startswith("adamw")
    optimiser = (torch.optim.AdamW(groups) if adamw
                 else torch.optim.SGD(groups, momentum=0.937, nesterov=True))
    target = torch.from_numpy(data["target"])
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = float(data["lr"][step]) * ((0.0 if step < STILL else SHARE) if group["first"] else 1.0)
        x = torch.from_numpy(data["x"]).reshape(STEPS, 2, 4, 6, 6)[step]
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(net(x), target).backward()
        if clip:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimiser.step()
    cases.append({"golden": file, "weight_decay": decay, "clip_norm": clip, "still": STILL, "share": SHARE,
                  "steps": STEPS, "after": {name: value.flatten().tolist() for name, value in net.state_dict().items()}})
json.dump({"torch": torch.__version__, "cases": cases}, sys.stdout)
