"""What is tried, in order, and what came of it."""

import time
import traceback

from machine import Failed

STEPS = []


def step(promise):
    """A function that tries this. It ends when the promise is kept, and raises `Failed` when it is not."""

    def remember(function):
        STEPS.append((promise, function))
        return function

    return remember


def check(condition, words):
    if not condition:
        raise Failed(words)


def equal(what, is_, must):
    check(is_ == must, f"{what} is {is_!r}, and must be {must!r}")


def try_all(device, log, only=None):
    """Tries all steps, those after a failed one too; gives the number that failed."""
    failed = 0
    for promise, function in STEPS:
        if only and function.__name__ not in only:
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
    return failed
