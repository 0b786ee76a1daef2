"""What the benchmark asks of Ultralytics, one task per process, through its public interface alone.

    python ultralytics.py base   --data D.yaml --out base.pt --epochs N         a YOLO11n from nothing
    python ultralytics.py blank  --model yolov8n.yaml --out blank.pt            random weights of 80 classes
    python ultralytics.py export --model M.pt --out M.onnx
    python ultralytics.py train  --model M.pt --data D.yaml --out run --epochs N --seed S [--bare]
    python ultralytics.py val    --model M.pt|M.onnx --data D.yaml --out FOLDER

`train` and `val` write their figures to `--json FILE`.
"""

import argparse
import json
import os
import pathlib
import shutil
import sys

# This file bears the name of the package that it imports: Python must not look for it here.
HERE = pathlib.Path(__file__).resolve().parent
sys.path = [folder for folder in sys.path if pathlib.Path(folder or ".").resolve() != HERE]

OPSET = 18


def quiet():
    """Its settings in a folder of ours, nothing installed by itself, nothing sent anywhere."""
    folder = pathlib.Path(os.environ.setdefault("YOLO_CONFIG_DIR", str(pathlib.Path("peers-out/ultralytics").resolve())))
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["YOLO_AUTOINSTALL"] = "false"
    from ultralytics import settings

    settings.update({name: False for name in ("sync", "clearml", "comet", "mlflow", "neptune", "raytune", "tensorboard", "wandb")
                     if name in settings})


def head_index(model):
    """The number of the Detect module, the last one: `freeze=` of it leaves the head alone to be trained."""
    return len(model.model.model) - 1


def loaders(args):
    """The number of loader processes, where it was asked for."""
    return {} if args.workers is None else {"workers": args.workers}


def base(args):
    from ultralytics import YOLO

    # Pictures are cheap to draw, so each is seen few times and needs no mosaic. What a network that starts from nothing lacks
    # is steps: small batches, and each of them one.
    model = YOLO(args.model or "yolo11n.yaml")
    model.train(data=args.data, epochs=args.epochs, imgsz=args.imgsz, batch=args.batch, nbs=args.batch, optimizer="AdamW", lr0=0.002,
                cos_lr=True, warmup_epochs=0.5, mosaic=0.0, close_mosaic=0, scale=0.3, seed=args.seed, val=False, plots=False, patience=0,
                device="cpu", amp=False, project=str(args.out.parent / "runs"), name=args.out.stem, exist_ok=True, **loaders(args))
    shutil.copy(args.out.parent / "runs" / args.out.stem / "weights" / "last.pt", args.out)


def blank(args):
    import torch
    from ultralytics import YOLO

    torch.manual_seed(args.seed)
    YOLO(args.model).save(args.out)


def export(args):
    from ultralytics import YOLO

    made = YOLO(args.model).export(format="onnx", imgsz=args.imgsz, dynamic=True, simplify=True, opset=OPSET, device="cpu")
    shutil.move(made, args.out)


def train(args):
    from ultralytics import YOLO

    model = YOLO(args.model)
    options = dict(data=args.data, epochs=args.epochs, imgsz=args.imgsz, batch=args.batch, seed=args.seed, freeze=head_index(model),
                   device="cpu", plots=False, project=str(args.out.parent), name=args.out.name, exist_ok=True,
                   **loaders(args))
    if args.bare:
        # Nothing but passes over the pictures, each like those in the middle of a long run: no measuring, no weights written,
        # mosaics throughout, and no warm-up, in which steps of the optimiser are more frequent.
        options.update(val=False, save=False, close_mosaic=0, warmup_epochs=0)
    if args.threads:
        # After its own choice of a number, which it makes when it sets itself up.
        model.add_callback("on_train_start", lambda trainer: set_threads(args.threads))
    seen = {}
    model.add_callback("on_train_start", lambda trainer: seen.update(
        frozen=sum(p.numel() for p in trainer.model.parameters() if not p.requires_grad),
        trained=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        optimizer=type(trainer.optimizer).__name__, lr=trainer.args.lr0, threads=torch_threads()))
    model.train(**options)
    return seen


def torch_threads():
    import torch

    return torch.get_num_threads()


def set_threads(count):
    import torch

    torch.set_num_threads(count)


def val(args):
    from ultralytics import YOLO

    # Square, as graftd measures; by default it would pad each batch by another half stride.
    figures = YOLO(args.model, task="detect").val(data=args.data, imgsz=args.imgsz, batch=args.batch, rect=False, device="cpu",
                                                  plots=False, workers=0, project=str(args.out), name="val", exist_ok=True)
    return {"mAP50": float(figures.box.map50), "mAP50_95": float(figures.box.map)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=("base", "blank", "export", "train", "val"))
    parser.add_argument("--model")
    parser.add_argument("--data")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, help="loader processes; its own default without it")
    parser.add_argument("--threads", type=int, help="of PyTorch; its own choice without it")
    parser.add_argument("--bare", action="store_true", help="train without measuring or saving")
    args = parser.parse_args()
    if args.out:
        args.out = args.out.resolve()
    quiet()
    figures = globals()[args.task](args)
    if args.json:
        args.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
