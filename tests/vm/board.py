#!/usr/bin/env python3
"""A board without owning one: Debian for arm64 in an emulated machine takes the package, captures, learns on both
runtimes, and loses its power in the middle of a run.

    tests/vm/board.py [--suite bookworm] [--deb FILE] [--afresh] [--only STEP…]

It takes long. Where it was ended it goes on with the next step, unless package or tests have changed meanwhile; the
machine's disk and the log lie in target/vm/board. Exit status 1 when anything fails.
"""

import argparse
import hashlib
import pathlib
import shutil
import sys

import checks
import learning
import package
from device import Device
from machine import Machine, image, share

ROOT = pathlib.Path(__file__).resolve().parents[2]
MINUTES = 240
STEPS = [package.package, package.runtime, package.doctor, package.comes_up, learning.on_onnx_runtime, package.again,
         learning.on_tract, learning.cut_in_a_run, learning.counts_alike, learning.learns_alike, package.purged]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--suite", default="bookworm", help="of Debian")
    arguments.add_argument("--deb", type=pathlib.Path, help="the package; without it, the one in target/dist")
    arguments.add_argument("--afresh", action="store_true", help="begin with an empty machine")
    arguments.add_argument("--only", nargs="*", help="these steps, by the names of their functions")
    given = arguments.parse_args()
    deb = given.deb or next(iter(sorted((ROOT / "target/dist").glob("graftd_*_arm64.deb"))), None)
    if deb is None:
        sys.exit("board: there is no package in target/dist (make deb ARCH=arm64)")

    folder = ROOT / "target/vm/board"
    done = Done(folder / "done", deb)
    if given.afresh or not done.steps:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        done.steps.clear()
    shared = share(folder / "host", {
        "graftd.deb": deb,
        "small.onnx": ROOT / "tests/data/goldens/exports/yolo11n.onnx",
        "libonnxruntime.so": ROOT / "target/vm/lib-arm64/libonnxruntime.so",
        "grad_runtimes": newest(ROOT / "target/debian/aarch64-unknown-linux-gnu/release/deps", "grad_runtimes-*"),
    })
    machine = Machine("arm64", image("arm64", given.suite, ROOT / f"target/vm/arm64-{given.suite}"), folder, shared)
    if not machine.disk.exists():
        machine.make_disk()
    promises = {function: promise for promise, function in checks.STEPS}
    steps = [(promises[function], function) for function in STEPS]
    if given.only:
        steps = [step for step in steps if step[1].__name__ in given.only]
    else:
        steps = [step for step in steps if step[1].__name__ not in done.steps]
    device = Device(machine)

    def begin():
        """What an earlier session has left, goes on."""
        if "comes_up" in done.steps:
            machine.wait("the broker", "systemctl is-active mosquitto")
            device.watch()

    print(f"board: {deb.name}, sha256 {hashlib.sha256(deb.read_bytes()).hexdigest()}", flush=True)
    checks.session(device, steps, MINUTES, begin, lambda function: done.add(function.__name__))


def newest(folder, pattern):
    """The program that was built last."""
    programs = [path for path in folder.glob(pattern) if not path.suffix]
    return max(programs, key=lambda path: path.stat().st_mtime, default=folder / pattern)


class Done:
    """The steps that have passed with this package, in a file."""

    def __init__(self, path, deb):
        self.path = path
        # The same package, tried otherwise, is begun anew.
        tests = sorted(pathlib.Path(__file__).parent.glob("*.*"))
        self.recipe = hashlib.sha256(b"".join(file.read_bytes() for file in [deb, *tests])).hexdigest()
        lines = path.read_text().split() if path.exists() else []
        self.steps = lines[1:] if lines[:1] == [self.recipe] else []

    def add(self, step):
        self.steps.append(step)
        self.path.write_text("\n".join([self.recipe, *self.steps]) + "\n")


if __name__ == "__main__":
    main()
