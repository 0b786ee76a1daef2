"""What both tables share: where things lie, what is kept from an earlier run, and how each tool is called."""

import hashlib
import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import measure

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]


class Failed(Exception):
    """One step did not work; the rest may."""


class Workshop:
    """A folder of results. What is in it is not made again."""

    def __init__(self, out, graftd):
        self.out, self.graftd = out.resolve(), graftd.resolve()
        for name in ("bases", "data", "logs", "results", "runs"):
            (self.out / name).mkdir(parents=True, exist_ok=True)
        # Results of another build of graftd are of no use; those of the reference are.
        self.build = hashlib.sha256(self.graftd.read_bytes()).hexdigest()[:10]
        self.started = time.monotonic()
        self.failures = []

    def say(self, text):
        print(f"[{time.monotonic() - self.started:6.0f} s] {text}", file=sys.stderr, flush=True)

    def call(self, name, command, fine=(0,)):
        """Runs a command, measured; its words go to a log of this name."""
        log = self.out / "logs" / f"{name}.log"
        env = {"YOLO_CONFIG_DIR": str(self.out / "ultralytics"), "PYTHONDONTWRITEBYTECODE": "1", "RUST_BACKTRACE": "0"}
        # Numbers of threads left over from the shell would decide the comparison.
        for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
            env[variable] = os.environ.get(f"PEERS_{variable}", "")
        cost = measure.run(command, log, {key: value for key, value in env.items() if value})
        if cost["code"] not in fine:
            raise Failed(f"{name}: exit code {cost['code']}: {last_words(log)} (all of it in {log})")
        return cost, log

    def once(self, name, make):
        """The result of this name, made now unless it is there."""
        path = self.out / "results" / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text())
        self.say(name)
        result = make()
        passing = path.with_suffix(".new")
        passing.write_text(json.dumps(result, indent=1))
        passing.rename(path)
        return result

    def attempt(self, what, work):
        """The outcome, or none: then it is noted what went wrong."""
        try:
            return work()
        except Failed as failure:
            self.say(f"FAILED: {failure}")
            self.failures.append(f"{what}: {failure}")
            return None

    # What is made once ------------------------------------------------------------------------------------------

    def data(self, name, world, train, val, seed):
        """A drawn data set; `data.yaml` is written last, so it says that the set is whole."""
        path = self.out / "data" / name / "data.yaml"
        if not path.exists():
            self.say(f"drawing {train} + {val} pictures of {world}")
            self.call(f"data-{name}", [sys.executable, HERE / "scenes.py", world, path.parent, "--train", train, "--val", val,
                                       "--seed", seed])
        return path

    def base(self, name, data, epochs):
        """A YOLO11n trained from nothing, as .pt and .onnx."""
        weights = self.out / "bases" / f"{name}.pt"
        if not weights.exists():
            self.say(f"training the base {name} from nothing: some CPU-minutes")
            self.reference(f"base-{name}", "base", data=data, epochs=epochs, out=weights)
        return weights, self.exported(weights)

    def blank(self, model):
        """A network of 80 classes with random weights, as .pt and .onnx."""
        weights = self.out / "bases" / f"{model}.pt"
        if not weights.exists():
            self.reference(f"blank-{model}", "blank", model=f"{model}.yaml", out=weights)
        return weights, self.exported(weights)

    def exported(self, weights, imgsz=320):
        """The ONNX file of a .pt, by the reference's own exporter."""
        path = weights.with_suffix(".onnx")
        if not path.exists():
            name = "-".join(weights.relative_to(self.out).with_suffix("").parts)
            self.reference(f"export-{name}", "export", model=weights, out=path, imgsz=imgsz)
        return path

    # The two tools ----------------------------------------------------------------------------------------------

    def reference(self, name, task, **options):
        """One task of ultralytics.py: what it cost and the figures that it gave."""
        figures = self.out / "logs" / f"{name}.json"
        figures.unlink(missing_ok=True)
        flags = []
        for key, value in options.items():
            flags += [f"--{key}"] if value is True else [f"--{key}", value]
        cost, _ = self.call(name, [sys.executable, HERE / "ultralytics.py", task, *flags, "--json", figures])
        return cost, json.loads(figures.read_text())

    def train(self, name, base, data, out, options):
        """`graftd train`; a model that the gate refuses is written all the same, and measured."""
        # 3: the candidate was no better than the base. That is a result.
        cost, log = self.call(name, [self.graftd, "train", "--base", base, "--data", data, "--out", out, "--force", "--json",
                                     *options], fine=(0, 3))
        if not out.exists():
            raise Failed(f"{name}: no model was written: {last_words(log)}")
        return cost, last_json(log)

    def eval(self, name, model, data, imgsz=320):
        """The figures of a model, by the one evaluator for both tools."""
        _, log = self.call(name, [self.graftd, "eval", "--model", model, "--data", data, "--imgsz", imgsz, "--json"])
        return last_json(log)

    def versions(self):
        graftd = subprocess.run([self.graftd, "--version"], capture_output=True, text=True).stdout.strip()
        commit = ""
        if ROOT in self.graftd.parents:
            told = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
            commit = told.stdout.strip()
        runtime = next(iter(sorted((ROOT / "lib").glob("libonnxruntime.so.*.*"))), None)
        parts = [graftd + (f" ({commit})" if commit else "")]
        if runtime:
            parts.append("ONNX Runtime " + runtime.name.removeprefix("libonnxruntime.so."))
        parts += [f"{title} {importlib.metadata.version(package)}" for title, package in (("Ultralytics", "ultralytics"), ("PyTorch", "torch"))]
        return ", ".join(parts)


def last_words(log):
    lines = [line for line in re.split(r"[\r\n]+", log.read_text(errors="replace")) if line.strip()]
    return lines[-1].strip()[:300] if lines else "it said nothing"


def last_json(log):
    """The last JSON object of a log, which may hold other lines too."""
    for line in reversed(log.read_text(errors="replace").splitlines()):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    raise Failed(f"no figures in {log}")
