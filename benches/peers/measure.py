"""What a process costs, with all that it starts, and what machine it ran on."""

import os
import pathlib
import platform
import subprocess
import threading
import time

ENERGY = pathlib.Path("/sys/class/powercap")


def run(command, log, env=None):
    """Runs `command` to its end: CPU-seconds, wall seconds, peak MB, joules (or none), exit code. Its words go to `log`."""
    before, started = energy(), time.monotonic()
    with open(log, "wb") as out:
        child = subprocess.Popen([str(part) for part in command], stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                 env={**os.environ, **(env or {})})
    memory = Memory(child.pid)
    # What the child waited for is counted with it; loader processes are.
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - started
    return {
        "cpu_s": used.ru_utime + used.ru_stime,
        "wall_s": wall,
        "peak_mb": max(memory.stop(), used.ru_maxrss / 1024),
        "joules": spent(before, energy()),
        "code": child.returncode,
    }


class Memory(threading.Thread):
    """The most that a process and its children hold together, looked at twice a second."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.peak, self.ended = pid, 0.0, threading.Event()
        self.start()

    def run(self):
        while not self.ended.wait(0.5):
            self.peak = max(self.peak, sum(resident(pid) for pid in family(self.pid)) / 1024)

    def stop(self):
        self.ended.set()
        self.join()
        return self.peak


def family(pid):
    """A process and its descendants."""
    out = [pid]
    for one in out:
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                out += [int(child) for child in pathlib.Path(f"/proc/{one}/task/{task}/children").read_text().split()]
        except (OSError, ValueError):
            pass  # it has ended meanwhile
    return out


def resident(pid):
    """KB that a process holds; pages that several processes share count for each in part."""
    try:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0


def energy():
    """Microjoules of each processor package since some moment, with the number at which it starts again."""
    out = {}
    for folder in sorted(ENERGY.glob("intel-rapl:*")):
        try:
            # intel-rapl:0 is a package; intel-rapl:0:0 a part of it.
            if folder.name.count(":") == 1:
                out[folder.name] = (int((folder / "energy_uj").read_text()), int((folder / "max_energy_range_uj").read_text()))
        except (OSError, ValueError):
            return None  # there, but not for this user
    return out or None


def spent(before, after):
    """Joules of the whole machine between two readings; none where it doesn't tell."""
    if not before or not after:
        return None
    return sum((after[name][0] - count) % limit for name, (count, limit) in before.items() if name in after) / 1e6


def machine():
    """The processor in words."""
    model, flags = platform.machine(), ""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            model = value.strip()
        elif name.strip() in ("flags", "Features"):
            flags = value
    wide = next((word for flag, word in (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("asimd", "NEON")) if flag in flags.split()), "")
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2 ** 30
    return f"{model}{f' ({wide})' if wide else ''}, {cores} core{'s' * (cores != 1)}, {memory:.0f} GB"
