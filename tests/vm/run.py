#!/usr/bin/env python3
"""The real systemd starts, watches, kills, reloads and upgrades graftd, in a virtual machine that loses its power.

    tests/vm/run.py [--suite bookworm] [--binary target/debug/graftd] [--only STEP…]

The image is made once, in target/vm; what happened lies in target/vm/run. Exit status 1 when anything fails.
"""

import argparse
import pathlib
import shutil
import signal
import sys
import time

import checks
# In this order they are tried.
import service  # noqa: F401
import camera  # noqa: F401
import training  # noqa: F401
import keeping  # noqa: F401
import power  # noqa: F401
from device import Device
from machine import Failed, Machine, image

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Where the processor is emulated.
MINUTES = 120


def share(folder, binary):
    """What the guest sees as /host."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = {"graftd": binary, "base.onnx": ROOT / "models/base.onnx",
             "small.onnx": ROOT / "tests/data/goldens/exports/yolo11n.onnx",
             "libonnxruntime.so": ROOT / "lib/libonnxruntime.so"}
    for name, path in files.items():
        if not path.exists():
            sys.exit(f"vm: {path} is missing")
        shutil.copy(path, folder / name)
    shutil.copytree(ROOT / "systemd", folder / "systemd")
    return folder


def out_of_time(*_):
    raise SystemExit(f"vm: not done within {MINUTES} minutes")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--suite", default="bookworm", help="of Debian")
    arguments.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/debug/graftd")
    arguments.add_argument("--only", nargs="*", help="these steps, by the names of their functions")
    given = arguments.parse_args()

    folder = ROOT / "target/vm/run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shared = share(folder / "host", given.binary)
    machine = Machine("amd64", image("amd64", given.suite, ROOT / f"target/vm/amd64-{given.suite}"), folder, shared)
    machine.make_disk()
    device = Device(machine)
    signal.signal(signal.SIGALRM, out_of_time)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("vm: ended from outside"))
    signal.alarm(MINUTES * 60)
    begun = time.monotonic()
    try:
        machine.boot()
        systemd = machine.do("systemctl --version | head -1")
        print(f"vm: Debian {given.suite}, {systemd}, {machine.accelerator}, booted in {time.monotonic() - begun:.0f} s")
        with open(folder / "steps.log", "w") as log:
            failed = checks.try_all(device, log, given.only)
    except Failed as error:
        sys.exit(f"vm: {error}")
    finally:
        device.stop_watching()
        machine.cut_power()
    tried = len(given.only or checks.STEPS)
    print(f"vm: {tried - failed} of {tried} ok, in {(time.monotonic() - begun) / 60:.1f} minutes; log in {folder}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
