"""graftd beside Ultralytics with everything frozen but the head: same base, data, size, epochs and batch, in turns.

    python peers.py runs [--seeds 0 1 2] [--epochs 50] [--sets crowns yard] [--graftd-args "--lr 0.002"]
    python peers.py cost [--models yolo11n yolov8n] [--sides 320 640]

`make peers` and `make peers-cost` call it with all that it needs. See README.md beside it for what is compared with what.
"""

import argparse
import pathlib
import shlex

import cost
import runs
from workshop import ROOT, Workshop


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", choices=("runs", "cost"))
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "peers-out", help="where everything is kept")
    parser.add_argument("--graftd", type=pathlib.Path, default=ROOT / "target" / "release" / "graftd")
    parser.add_argument("--graftd-args", type=shlex.split, default=[], help="further options of `graftd train`, in one word")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--sets", nargs="+", choices=runs.SETS, default=list(runs.SETS))
    parser.add_argument("--models", nargs="+", default=list(cost.MODELS))
    parser.add_argument("--sides", type=int, nargs="+", default=[320, 640])
    args = parser.parse_args()
    if not args.graftd.exists():
        parser.error(f"{args.graftd} is not there; build it with `cargo build --release`, or name it with --graftd")
    shop = Workshop(args.out, args.graftd)
    table = runs.table(shop, args) if args.table == "runs" else cost.table(shop, args)
    if shop.failures:
        table += "\nWhat went wrong:\n" + "".join(f"- {failure}\n" for failure in shop.failures)
    page = shop.out / ("peers.md" if args.table == "runs" else "peers-cost.md")
    page.write_text(table)
    print(table, end="", flush=True)
    shop.say(f"written to {page}")
    raise SystemExit(1 if shop.failures else 0)


if __name__ == "__main__":
    main()
