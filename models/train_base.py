"""Make models/base.onnx again: draw scenes, cache the trunk's features, train neck and head, export, check, score.

    pip install -r models/requirements.txt
    python models/train_base.py            # about seven minutes on two cores

Real pictures are opened once, at the very end, to be scored; nothing is trained, stopped or chosen by them.
"""

import argparse
import copy
import math
import multiprocessing
import os
import pathlib
import pickle
import tempfile
import time

# Read when onnxruntime is loaded: official builds report their use to their makers otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime
import torch
from PIL import Image
from torch import nn

from export import export, fold_trunk
from loss import detection_loss
from metrics import mean_ap, nms
from net import TAP_CHANNELS, Detect, Neck, imagenet_trunk
from scenes import CLASSES, SIZE, scene

HERE = pathlib.Path(__file__).resolve().parent
GRIDS = (104, 52, 26, 13)


def log(started, words):
    print(f"{time.time() - started:6.0f} s  {words}", flush=True)


# Features ---------------------------------------------------------------------------------------------------------
# PyTorch takes five times as long as onnxruntime over the trunk's depthwise convolutions, and the trunk never learns:
# it runs once per scene.


def session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def as_input(picture):
    return (picture.astype(np.float32) / 255).transpose(2, 0, 1)[None]


def draw_share(job):
    worker, workers, count, seed, folder, name = job
    trunk = session(folder / "trunk.onnx", 1)
    stores = [np.lib.format.open_memmap(folder / f"{name}.{k}.npy", "r+") for k in range(4)]
    rows = {}
    for i in range(worker, count, workers):
        picture, rows[i] = scene((seed, i))
        for store, tap in zip(stores, trunk.run(None, {"images": as_input(picture)})):
            store[i] = tap[0]
    return rows


def draw(folder, name, count, seed, workers=2):
    """`count` scenes as the trunk sees them (f16, on disk) and their boxes."""
    for k, (channels, grid) in enumerate(zip(TAP_CHANNELS, GRIDS)):
        np.lib.format.open_memmap(folder / f"{name}.{k}.npy", "w+", np.float16, (count, channels, grid, grid))
    rows = {}
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for share in pool.map(draw_share, [(w, workers, count, seed, folder, name) for w in range(workers)]):
            rows.update(share)
    rows = [rows[i] for i in range(count)]
    (folder / f"{name}.pkl").write_bytes(pickle.dumps(rows))
    return [np.load(folder / f"{name}.{k}.npy", mmap_mode="r") for k in range(4)], rows


def batch_of(features, rows, ids):
    taps = tuple(torch.from_numpy(np.stack([f[i] for i in ids]).astype(np.float32)) for f in features)
    return taps, [(torch.from_numpy(rows[i][:, 0]).long(), torch.from_numpy(rows[i][:, 1:])) for i in ids]


# Training ---------------------------------------------------------------------------------------------------------


def train(neck, head, features, rows, epochs, seed, started, batch=8, peak=2e-3, decay=0.02, warm=60):
    """AdamW on a cosine; what comes back is the running mean of the weights."""
    random, learner = np.random.default_rng(seed), nn.ModuleList([neck, head])
    mean = copy.deepcopy(learner)
    weights = [p for p in learner.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW([{"params": [p for p in weights if p.ndim > 1], "weight_decay": decay},
                                   {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0}], lr=peak)
    steps, step = epochs * (len(rows) // batch), 0
    for epoch in range(epochs):
        learner.train()
        order, losses = random.permutation(len(rows)), []
        for first in range(0, len(rows) - batch + 1, batch):
            rate = peak * min(1, (step + 1) / warm) * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)
            for group in optimiser.param_groups:
                group["lr"] = rate
            taps, targets = batch_of(features, rows, order[first:first + batch])
            loss, parts = detection_loss(*head.maps(neck(taps)), targets)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 10.0)
            optimiser.step()
            step += 1
            losses.append(parts)
            keep = min(0.998, (1 + step) / (10 + step))
            with torch.no_grad():
                for old, new in zip(mean.state_dict().values(), learner.state_dict().values()):
                    old.lerp_(new, 1 - keep) if old.dtype.is_floating_point else old.copy_(new)
        box, cls, dfl = np.mean(losses, 0)
        log(started, f"epoch {epoch + 1}/{epochs}: box {box:.3f}, class {cls:.3f}, distribution {dfl:.3f}")
    return mean[0].eval(), mean[1].eval()


def only_tree(head):
    """The other classes were there for the neck's sake; the exported head knows the first alone."""
    head = copy.deepcopy(head)
    head.nc = 1
    for branch in head.cv3:
        old, new = branch[-1], nn.Conv2d(branch[-1].in_channels, 1, 1)
        new.weight.data, new.bias.data = old.weight.data[:1].clone(), old.bias.data[:1].clone()
        branch[-1] = new
    return head


# Scores -----------------------------------------------------------------------------------------------------------


def score(model, pairs):
    """(mAP50, mAP50-95) of an ONNX file over pairs of picture and boxes in its pixels."""
    found, truths = [], []
    for picture, boxes in pairs:
        found.append(nms(model.run(None, {"images": as_input(picture)})[0][0]))
        truths.append(boxes)
    return mean_ap(found, truths)


def drawn(count, seed):
    for i in range(count):
        picture, rows = scene((seed, i))
        yield picture, rows[rows[:, 0] == 0, 1:]


def real(folder, split):
    """A YOLO folder of square pictures, stretched to the network's size."""
    for path in sorted((folder / "images" / split).glob("*.jpg")):
        picture = Image.open(path).convert("RGB").resize((SIZE, SIZE), Image.BILINEAR)
        text = (folder / "labels" / split / (path.stem + ".txt")).read_text().split()
        rows = np.array(text, np.float32).reshape(-1, 5)[:, 1:]
        yield np.asarray(picture), np.concatenate((rows[:, :2] - rows[:, 2:] / 2, rows[:, :2] + rows[:, 2:] / 2), 1) * SIZE


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "base.onnx")
    parser.add_argument("--scenes", type=int, default=1200)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", type=pathlib.Path, default=HERE.parent / "demo" / "treecrowns")
    parser.add_argument("--keep", type=pathlib.Path, help="a folder for the cached features (1 MB a scene) and weights")
    args = parser.parse_args()
    started = time.time()
    torch.manual_seed(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or pathlib.Path(scratch)
        os.makedirs(folder, exist_ok=True)
        trunk = imagenet_trunk()
        torch.onnx.export(fold_trunk(trunk), (torch.zeros(1, 3, SIZE, SIZE),), folder / "trunk.onnx", dynamo=False,
                          opset_version=18, input_names=["images"])
        features, rows = draw(folder, "scenes", args.scenes, args.seed)
        log(started, f"{args.scenes} scenes, {sum((r[:, 0] == 0).sum() for r in rows)} trees")
        neck = Neck()
        head = Detect(len(CLASSES), neck.channels)
        neck, head = train(neck, head, features, rows, args.epochs, args.seed, started)
        torch.save({"neck": neck.state_dict(), "head": head.state_dict()}, folder / "weights.pt")
    difference = export(trunk, neck, only_tree(head), str(args.out))
    log(started, f"{args.out}: {args.out.stat().st_size / 2 ** 20:.1f} MB, {difference:.1e} from PyTorch")
    model = session(args.out, 2)
    # A seed that training never drew from.
    log(started, "drawn scenes: mAP50 {:.3f}, mAP50-95 {:.3f}".format(*score(model, drawn(100, args.seed + 1_000_000))))
    if args.real.exists():
        log(started, "real hold-out, untrained on it: mAP50 {:.3f}, mAP50-95 {:.3f}".format(*score(model, real(args.real, "val"))))


if __name__ == "__main__":
    main()
