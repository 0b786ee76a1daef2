"""What is tried, in order, and what came of it."""

import signal
import sys
import time
import traceback

from machine import Failed

STEPS = []


def step(promise, at_the_end=False):
    """A function that tries this. It ends when the promise is kept, and raises `Failed` when it is not. What takes away
    that with which others are tried is for the end: it waits until all before it has worked."""

    def remember(function):
        function.at_the_end = at_the_end
        STEPS.append((promise, function))
        return function

    return remember


def check(condition, words):
    if not condition:
        raise Failed(words)


def equal(what, is_, must):
    check(is_ == must, f"{what} is {is_!r}, and must be {must!r}")


def steps_of(*modules):
    """Their steps, in this order."""
    return [step for module in modules for step in STEPS if step[1].__module__ == module.__name__]


def try_all(device, steps, log, passed=lambda function: None):
    """Tries all steps, those after a failed one too; gives the number that failed. Tells `passed` what has worked."""
    failed = 0
    for promise, function in steps:
        if failed and function.at_the_end:
            failed += 1
            print(f"not yet {promise}: what is before it has failed", flush=True)
            continue
        begun = time.monotonic()
        try:
            note = function(device)
            result = "ok    "
        except Failed as error:
            failed, result, note = failed + 1, "FAILED", str(error)
        except Exception:
            failed, result, note = failed + 1, "FAILED", traceback.format_exc()
        line = f"{result} {promise} ({time.monotonic() - begun:.1f} s)" + (f": {note}" if note else "")
        print(line, flush=True)
        print(line, file=log, flush=True)
        if result == "FAILED":
            print(device.evidence(), file=log, flush=True)
        else:
            passed(function)
    return failed


def session(device, steps, minutes, begin=lambda: None, passed=lambda function: None):
    """Boots, tries all steps and ends the program: with 0 when all have worked."""

    def out_of_time(*_):
        raise SystemExit(f"vm: not done within {minutes} minutes")

    machine = device.machine
    signal.signal(signal.SIGALRM, out_of_time)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("vm: ended from outside"))
    signal.alarm(minutes * 60)
    begun = time.monotonic()
    try:
        machine.boot()
        what = machine.do(". /etc/os-release; echo \"$PRETTY_NAME $(uname -m), $(systemctl --version | head -1)\"")
        print(f"vm: {what}, {machine.accelerator}, booted in {time.monotonic() - begun:.0f} s", flush=True)
        begin()
        with open(machine.folder / "steps.log", "a") as log:
            print(f"{time.strftime('%Y-%m-%d %H:%M')} {what}", file=log, flush=True)
            failed = try_all(device, steps, log, passed)
    except Failed as error:
        sys.exit(f"vm: {error}")
    finally:
        device.stop_watching()
        machine.cut_power()
    took = (time.monotonic() - begun) / 60
    print(f"vm: {len(steps) - failed} of {len(steps)} ok, in {took:.1f} minutes; log in {machine.folder}")
    sys.exit(1 if failed else 0)
