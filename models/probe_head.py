"""What a base is good for: train its head alone on a YOLO folder, in PyTorch, and score it on the hold-out.

    python models/probe_head.py models/base.onnx demo/treecrowns

This is the yardstick that bases were compared with (README.md says on which split) and the recipe that the figures
there come from. It reads everything out of the ONNX file, so it also shows that the file's names are what they should be.
"""

import argparse
import math
import pathlib
import re
import time

import numpy as np
import onnx
import onnxruntime
import torch
from PIL import Image, ImageEnhance
from torch import nn

from loss import detection_loss
from metrics import mean_ap, nms
from net import Detect, fold
from scenes import SIZE


def open_base(path):
    """The file as (a session that gives the head's inputs, the head as a module)."""
    proto = onnx.load(path)
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in proto.graph.initializer}
    last = max(int(m[1]) for m in (re.match(r"model\.(\d+)\.cv2\.", name) for name in weights) if m)
    names = [next(n.input[0] for n in proto.graph.node if f"model.{last}.cv2.{level}.0.conv.weight" in n.input) for level in range(3)]
    channels = [weights[f"model.{last}.cv2.{level}.0.conv.weight"].shape[1] for level in range(3)]
    final = weights[f"model.{last}.cv3.0.2.weight"]
    head = fold(Detect(final.shape[0], channels, cls_width=final.shape[1]))
    state = {k: torch.from_numpy(weights[f"model.{last}.{k}"].copy()) for k in head.state_dict()}
    head.load_state_dict(state)
    for name in names:
        proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(names, {"images": x}), head


def read(folder, split):
    for path in sorted((folder / "images" / split).glob("*.jpg")):
        picture = Image.open(path).convert("RGB").resize((SIZE, SIZE), Image.BILINEAR)
        rows = np.array((folder / "labels" / split / (path.stem + ".txt")).read_text().split(), np.float32).reshape(-1, 5)[:, 1:]
        yield picture, np.concatenate((rows[:, :2] - rows[:, 2:] / 2, rows[:, :2] + rows[:, 2:] / 2), 1) * SIZE


def view(picture, boxes, k, random, turn):
    """View 0 is the picture itself; the others are scaled, shifted and recoloured, and turned or mirrored if asked."""
    if k == 0:
        return picture, boxes
    pixels = np.asarray(picture)
    if turn:
        if k & 1:
            pixels, boxes = pixels[:, ::-1], np.stack((SIZE - boxes[:, 2], boxes[:, 1], SIZE - boxes[:, 0], boxes[:, 3]), 1)
        for _ in range(k >> 1 & 3):
            pixels = np.rot90(pixels)
            boxes = np.stack((boxes[:, 1], SIZE - boxes[:, 2], boxes[:, 3], SIZE - boxes[:, 0]), 1)
    scale = math.exp(random.uniform(math.log(0.75), math.log(1.4)))
    side = round(SIZE * scale)
    low, high = min(0, SIZE - side), max(0, SIZE - side)
    x, y = (int(random.uniform(low, high)) for _ in range(2))
    out = Image.new("RGB", (SIZE, SIZE), (114, 114, 114))
    out.paste(Image.fromarray(np.ascontiguousarray(pixels)).resize((side, side), Image.BILINEAR), (x, y))
    whole = boxes * scale + [x, y, x, y]
    boxes = whole.clip(0, SIZE)
    size = boxes[:, 2:] - boxes[:, :2]
    kept = (size.prod(1) > 0.35 * (whole[:, 2:] - whole[:, :2]).prod(1)) & (size > 4).all(1)
    for enhance, reach in ((ImageEnhance.Brightness, 0.3), (ImageEnhance.Contrast, 0.25), (ImageEnhance.Color, 0.3)):
        out = enhance(out).enhance(random.uniform(1 - reach, 1 + reach))
    hsv = np.asarray(out.convert("HSV")).copy()
    hsv[..., 0] += np.uint8(int(random.uniform(-6, 6)) % 256)
    return Image.fromarray(hsv, "HSV").convert("RGB"), boxes[kept].astype(np.float32)


def evaluate(head, samples):
    head.eval()
    with torch.no_grad():
        found = [nms(head([torch.from_numpy(f).float() for f in features])[0].numpy()) for features, _ in samples]
    return mean_ap(found, [boxes for _, boxes in samples])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("base", type=pathlib.Path)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--turn", action="store_true", help="also turn and mirror the views")
    parser.add_argument("--within-train", action="store_true", help="train on the first 60 % of train, score on the rest")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    random = np.random.default_rng(args.seed)
    backbone, head = open_base(args.base)

    def features(picture):
        x = (np.asarray(picture, np.float32) / 255).transpose(2, 0, 1)[None]
        return [f.astype(np.float16) for f in backbone(np.ascontiguousarray(x))]

    learn, hold = list(read(args.data, "train")), list(read(args.data, "val"))
    if args.within_train:
        cut = round(0.6 * len(learn))
        learn, hold = learn[:cut], learn[cut:]
    views = []
    for picture, boxes in learn:
        seen = [view(picture, boxes, k, random, args.turn) for k in range(args.views)]
        views.append([(features(p), b) for p, b in seen])
    hold = [(features(picture), boxes) for picture, boxes in hold]
    print("before: mAP50 {:.3f}, mAP50-95 {:.3f}".format(*evaluate(head, hold)), flush=True)

    weights = [p for p in head.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW([{"params": [p for p in weights if p.ndim > 1], "weight_decay": 5e-4},
                                   {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0}], lr=args.lr)
    batch, started, step = 8, time.time(), 0
    steps = args.epochs * math.ceil(len(views) / batch)
    for epoch in range(1, args.epochs + 1):
        head.train()
        order = random.permutation(len(views))
        for first in range(0, len(order), batch):
            chosen = [views[i][random.integers(args.views)] for i in order[first:first + batch]]
            maps = [torch.from_numpy(np.concatenate([f[level] for f, _ in chosen])).float() for level in range(3)]
            targets = [(torch.zeros(len(b), dtype=torch.long), torch.from_numpy(b)) for _, b in chosen]
            for group in optimiser.param_groups:
                group["lr"] = args.lr * min(1, (step + 1) / 20) * (0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2)
            loss, _ = detection_loss(*head.maps(maps), targets)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 10.0)
            optimiser.step()
            step += 1
        if epoch % 10 == 0 or epoch == args.epochs:
            print("epoch {}: mAP50 {:.3f}, mAP50-95 {:.3f} ({:.0f} s)".format(epoch, *evaluate(head, hold), time.time() - started), flush=True)


if __name__ == "__main__":
    main()
