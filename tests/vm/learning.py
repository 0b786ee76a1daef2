"""A board learns on both of its runtimes, loses its power in a run, and counts as other machines do."""

import base64
import json
import os
import pathlib
import subprocess

from camera import flows
from checks import check, equal, step
from training import TRAIN, current, event, trains

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The same program for the machine that this runs on.
RELEASE = ROOT / f"target/debian/{os.uname().machine}-unknown-linux-gnu/release/graftd"
LIBRARY = "/usr/lib/graftd/libonnxruntime.so"
DEMO = ROOT / "demo/treecrowns"
# Twenty steps: ten pictures in batches of two, four times.
TWENTY_STEPS = "--scope head --views 1 --batch 2 --epochs 4 --patience 0 --gate-confidence 0 --seed 0"


@step("frames are labelled over MQTT, a run ends on the arm64 ONNX Runtime, and its model is promoted")
def on_onnx_runtime(device):
    said = trains(device)
    equal("the runtime", device.state()["runtime"], "ort")
    return said


@step("rolled back and without ONNX Runtime, the same frames are learnt on tract, and the model is promoted")
def on_tract(device):
    device.command("rollback")
    equal("the slot", device.state()["slot"], 0)
    device.configure(runtime='backbone = "tract"\ntraining = "tract"', train=TRAIN)
    device.restart()
    flows(device)
    long = device.machine.patience * 20
    result = device.command("train", within=long, scope="head", epochs=15, views=4, patience=0)
    check(result["promoted"], result["reason"])
    device.wait_for_state("the new slot", lambda state: state["slot"] == result["slot"])
    equal("the runtime", device.state()["runtime"], "tract")
    flows(device)
    device.configure(train=TRAIN)
    device.restart()
    flows(device)
    equal("the slot", device.state()["slot"], result["slot"])
    return f"{result['reason']}; {result['seconds']:.0f} s"


@step("the power is cut in the middle of a run: all that was acknowledged is there, and the run goes on")
def cut_in_a_run(device):
    machine = device.machine
    # Every frame is kept, all the time.
    device.configure(share=1.0, per_hour=1_000_000, train=TRAIN)
    machine.do("systemctl reload graftd")
    so_far = len(device.heard())
    topic = device.begin("train", epochs=100_000, patience=0)
    run = machine.until("an epoch", lambda: event(device, "epoch", since=so_far))["run"]
    labelled = []
    for number in range(3):
        # What comes now is for the next run. Some of it will be measured on.
        sample = device.command("capture")["sample"]
        device.command("label", sample=sample, boxes=[], holdout=number == 0)
        labelled.append(sample)
    before, model = device.listed(), machine.do(f"sha256sum <{current(device)}")
    epoch = event(device, "epoch", since=so_far)["epoch"]
    machine.until("two more epochs", lambda: event(device, "epoch", since=so_far)["epoch"] >= epoch + 2)
    machine.cut_power()
    so_far, told = len(device.heard()), device.samples_told()
    machine.boot()
    machine.wait("the service", "systemctl is-active graftd")
    resumed = machine.until("the run to be taken up", lambda: event(device, "resumed", since=so_far))
    equal("the run", resumed["run"], run)
    machine.until("an epoch after the cut", lambda: event(device, "epoch", since=so_far))
    flows(device)
    after = device.listed()
    missing = told - after.keys()
    check(not missing, f"samples are missing: {missing}")
    wrong = [sample for sample, labels in before.items() if after[sample] != labels]
    check(not wrong, f"labels are missing: {wrong}")
    check(all(after[sample] != "no labels" for sample in labelled), "a label is missing")
    equal("the model", machine.do(f"sha256sum <{current(device)}"), model)
    device.command("cancel")
    answer = machine.until("the run's answer", lambda: device.answer(topic))
    equal("the run's answer", answer["status"], "failed")
    machine.do("systemctl stop graftd && runuser -u graftd -- graftd samples verify && systemctl start graftd")
    flows(device)
    device.configure(train=TRAIN)
    machine.do("systemctl reload graftd")
    return f"{len(told)} samples; cut after epoch {epoch + 2}, taken up after {resumed.get('epoch', '?')}"


@step("twenty steps of a head's training give the weights that they give on x86_64, within 1e-4, on both runtimes")
def counts_alike(device):
    said = device.machine.do(f"GRAFTD_ORT_LIB={LIBRARY} /host/grad_runtimes --nocapture")
    return "; ".join(line for line in said.splitlines() if "apart" in line)


@step("a whole run learns here what it learns on the machine beside it")
def learns_alike(device):
    machine = device.machine
    machine.do("systemctl stop graftd")
    here, there, data = (machine.folder / name for name in ("here.onnx", "there.onnx", "here.yaml"))
    command = "train --json --base {base} --data {data} --out {out} " + TWENTY_STEPS
    data.write_text(some_pictures(DEMO))
    own = command.format(base=ROOT / "models/base.onnx", data=data, out=here).split()
    own = subprocess.run([RELEASE, *own], check=True, capture_output=True, text=True)
    machine.do(f"echo '{some_pictures('/usr/share/graftd/demo/treecrowns')}' >/root/there.yaml")
    other = command.format(base="/usr/share/graftd/models/base.onnx", data="/root/there.yaml", out="/root/there.onnx")
    other = machine.do(f"graftd {other} 2>/dev/null", 3600)
    there.write_bytes(base64.b64decode(machine.do("base64 -w0 /root/there.onnx")))
    machine.do("systemctl start graftd")
    scores = [json.loads(said.strip().splitlines()[-1])["after"]["mAP50"] for said in (own.stdout, other)]
    compare = [ROOT / ".venv/bin/python", pathlib.Path(__file__).with_name("weights.py"), here, there,
               ROOT / "models/base.onnx"]
    said = subprocess.run(compare, capture_output=True, text=True)
    check(said.returncode == 0, said.stdout + said.stderr)
    check(abs(scores[0] - scores[1]) < 0.01, f"mAP50 {scores}")
    return f"{said.stdout.strip()}; mAP50 {scores[1]:.4f} here and {scores[0]:.4f} there"


def some_pictures(root):
    """The data.yaml of every third picture of the demo's, for a machine where they lie in this folder. With all of them an
    emulated machine would take three times as long."""
    pictures = {split: sorted((DEMO / "images" / split).glob("*.jpg"))[::3] for split in ("train", "val")}
    splits = {split: [str(path.relative_to(DEMO)) for path in paths] for split, paths in pictures.items()}
    return json.dumps({"path": str(root), **splits, "names": ["tree"]})
