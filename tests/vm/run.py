#!/usr/bin/env python3
"""The real systemd starts, watches, kills, reloads and upgrades graftd, in a virtual machine that loses its power.

    tests/vm/run.py [--suite bookworm] [--binary target/debug/graftd] [--only STEP…]

The image is made once, in target/vm; what happened lies in target/vm/run. Exit status 1 when anything fails.
"""

import argparse
import pathlib
import shutil

import camera
import checks
import keeping
import power
import service
import training
from device import Device
from machine import Machine, image, share

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Where the processor is emulated.
MINUTES = 120


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--suite", default="bookworm", help="of Debian")
    arguments.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/debug/graftd")
    arguments.add_argument("--only", nargs="*", help="these steps, by the names of their functions")
    given = arguments.parse_args()

    folder = ROOT / "target/vm/run"
    shutil.rmtree(folder, ignore_errors=True)
    shared = share(folder / "host", {
        "graftd": given.binary,
        "base.onnx": ROOT / "models/base.onnx",
        "small.onnx": ROOT / "tests/data/goldens/exports/yolo11n.onnx",
        "libonnxruntime.so": ROOT / "lib/libonnxruntime.so",
        "systemd": ROOT / "systemd",
    })
    machine = Machine("amd64", image("amd64", given.suite, ROOT / f"target/vm/amd64-{given.suite}"), folder, shared)
    machine.make_disk()
    steps = checks.steps_of(service, camera, training, keeping, power)
    if given.only:
        steps = [step for step in steps if step[1].__name__ in given.only]
    checks.session(Device(machine), steps, MINUTES)


if __name__ == "__main__":
    main()
