"""The power goes, again and again, while frames are kept and labelled."""

import random
import time

from camera import at_each_boot, flows
from checks import check, step

CUTS = 4


@step("it starts with the machine, camera and all")
def starts_with_the_machine(device):
    do = device.machine.do
    at_each_boot(device)
    do("systemctl enable --quiet graftd && sync")
    device.machine.shut_down()
    device.machine.boot()
    device.machine.wait("the service", "systemctl is-active graftd")
    flows(device)


@step("the power is cut while it keeps and labels frames: after each boot nothing that was acknowledged is missing")
def cuts(device):
    chance = random.Random(7)
    device.configure(fps=5.0, share=1.0, per_hour=1_000_000)
    device.machine.do("systemctl restart graftd && sync")
    kept, acknowledged = 0, set()
    for _ in range(CUTS):
        flows(device)
        known = device.samples_told()
        labels = {}
        until = time.monotonic() + chance.uniform(3, 8)

        def label():
            """Labels what is new, until the time has come and an answer too."""
            for sample in sorted(device.samples_told() - known - labels.keys())[:5]:
                labels[sample] = device.begin("label", sample=sample, boxes=[])
            return time.monotonic() >= until and any(map(device.answer, labels.values()))

        device.machine.until("an answer to a label", label)
        device.machine.cut_power()
        told = device.samples_told()
        new = {sample for sample, topic in labels.items()
               if (device.answer(topic) or {}).get("status") == "successful"}
        check(new, "no label was acknowledged before the cut")
        acknowledged |= new
        device.machine.boot()
        device.machine.wait("the service", "systemctl is-active graftd")
        flows(device)
        listed = device.listed()
        missing = told - listed.keys()
        check(not missing, f"{len(missing)} of {len(told)} samples are missing: {sorted(missing)[:5]}")
        unlabelled = {sample for sample in acknowledged if listed[sample] == "no labels"}
        check(not unlabelled, f"labels are missing: {unlabelled}")
        device.machine.do("systemctl stop graftd")
        device.machine.do("runuser -u graftd -- graftd samples verify")
        device.machine.do("systemctl start graftd")
        kept += len(told - known)
    return f"{CUTS} cuts; {kept} samples and {len(acknowledged)} labels acknowledged since boot and cut"
