"""What bases are good for: graftd trains each head on four fifths of the demo's training tiles and measures on the rest,
five times. The demo's hold-out takes no part.

    python models/compare.py models/base.onnx [other.onnx …] [-- --lr 0.004 …]
"""

import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDS = 5


def folds(folder):
    tiles = sorted((ROOT / "demo/treecrowns/images/train").iterdir())
    for fold in range(FOLDS):
        for split, wanted in (("val", True), ("train", False)):
            names = [str(tile) for number, tile in enumerate(tiles) if (number % FOLDS == fold) == wanted]
            (folder / f"{split}{fold}.txt").write_text("\n".join(names) + "\n")
        data = folder / f"data{fold}.yaml"
        data.write_text(f"train: train{fold}.txt\nval: val{fold}.txt\nnames:\n  0: tree\n")
        yield data


def main():
    arguments = sys.argv[1:]
    split = arguments.index("--") if "--" in arguments else len(arguments)
    bases, options = arguments[:split], arguments[split + 1:]
    print(f"{'base':40} mAP50 before   after   mAP50-95 after")
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for base in bases:
            figures = []
            for data in folds(folder):
                command = [ROOT / "target/release/graftd", "train", "--base", base, "--data", data, "--out", folder / "out.onnx",
                           "--turns", "all", "--patience", "0", "--json", *options]
                done = subprocess.run(command, stdout=subprocess.PIPE, cwd=ROOT, text=True)
                outcome = json.loads(done.stdout.splitlines()[-1])
                figures.append((outcome["before"]["mAP50"], outcome["after"]["mAP50"], outcome["after"]["mAP50_95"]))
            means = [sum(column) / FOLDS for column in zip(*figures)]
            print(f"{base:40} {means[0]:12.3f} {means[1]:7.3f} {means[2]:16.3f}", flush=True)


if __name__ == "__main__":
    main()
