"""A device in a virtual machine, and an operator beside it who knows nothing but MQTT."""

import itertools
import json
import os
import subprocess
import time

from machine import Failed

NAME = "board"
ROOT = f"graftd/{NAME}"
CONFIG = "/etc/graftd/graftd.toml"
# A model that is quick even where the processor is emulated.
BASICS = """\
device = "board"
[model]
base = "/usr/share/graftd/small.onnx"
[runtime]
threads = 1
{runtime}
[detect]
confidence = 0.9
[camera]
source = "/dev/video0"
fps = {fps}
width = {width}
height = {height}
[select]
random_share = {share}
least_difference = 0.0
per_hour = {per_hour}
[store]
ballast_mb = 1
min_free_mb = 1
[mqtt]
broker = "{broker}"
{mqtt}
[train]
idle = false
min_samples = 2
{train}
"""


class Device:
    def __init__(self, machine):
        self.machine = machine
        self.ids = (f"c{number}" for number in itertools.count())
        self.heard_at = machine.folder / "heard.jsonl"
        self.watcher = None
        self.messages, self.read = [], 0

    # What the operator hears. It is written on this machine, which keeps its power.

    def watch(self):
        """Hears all from here on, also what comes while the connection is away."""
        out = open(self.heard_at, "ab")
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", self.machine.broker_port, "-q", "1", "-t", "graftd/#",
                   "-i", f"operator-{os.getpid()}", "-c", "-F", "%j"]
        self.watcher = subprocess.Popen(list(map(str, command)), stdout=out, stderr=subprocess.DEVNULL)

    def stop_watching(self):
        if self.watcher is not None:
            self.watcher.kill()
            self.watcher.wait()
            self.watcher = None

    def heard(self):
        """All messages: topic below the root, and the payload, decoded where it is JSON."""
        with open(self.heard_at, "rb") as file:
            file.seek(self.read)
            new = file.read()
        # The last line may still be written.
        whole = new[: new.rfind(b"\n") + 1]
        self.read += len(whole)
        for line in whole.splitlines():
            message = json.loads(line)
            payload = message["payload"]
            try:
                payload = json.loads(payload)
            except (TypeError, ValueError):
                pass
            self.messages.append((message["topic"].removeprefix(ROOT + "/"), payload))
        return self.messages

    def send(self, topic, payload):
        self.machine.do(f"mosquitto_pub -q 1 -t '{ROOT}/{topic}' -m '{json.dumps(payload)}'")

    def begin(self, command, **arguments):
        """Sends a command; gives its topic."""
        topic = f"cmd/{command}/{time.time_ns():x}{next(self.ids)}"
        self.send(topic, {"status": "init", **arguments})
        return topic

    def answer(self, topic):
        """The last word on a command, if there is one."""
        for heard, payload in self.heard():
            if heard == topic and isinstance(payload, dict) and payload.get("status") in ("successful", "failed"):
                return payload
        return None

    def command(self, command, within=None, **arguments):
        """Sends a command, which must succeed; gives its result."""
        topic = self.begin(command, **arguments)
        answer = self.machine.until(f"an answer to {command}", lambda: self.answer(topic), within)
        if answer["status"] != "successful":
            raise Failed(f"{command}: {answer.get('reason')}")
        return answer.get("result")

    def state(self):
        return self.command("state")

    def wait_for_state(self, what, condition, patience=None):
        def asked():
            state = self.state()
            return state if condition(state) else None

        return self.machine.until(what, asked, patience)

    def samples_told(self):
        return {payload["sample"] for topic, payload in self.heard() if topic == "event/sample"}

    # The service.

    def configure(self, fps=2.0, width=640, height=480, share=0.0, per_hour=0, broker="mqtt://127.0.0.1", mqtt="",
                  runtime="", train=""):
        self.write(CONFIG, BASICS.format(**{k: v for k, v in locals().items() if k != "self"}))

    def write(self, path, text):
        quoted = text.replace("'", "'\\''")
        self.machine.do(f"mkdir -p $(dirname {path}) && printf %s '{quoted}' > {path}")

    def drop_in(self, name, text):
        """A change to the unit; none takes it back."""
        path = f"/etc/systemd/system/graftd.service.d/{name}.conf"
        if text is None:
            self.machine.do(f"rm -f {path}")
        else:
            self.write(path, text)
        self.machine.do("systemctl daemon-reload")

    def property(self, name):
        return self.machine.do(f"systemctl show graftd --value -p {name}")

    def pid(self):
        return int(self.property("MainPID"))

    def restart(self):
        # It is started oftener than a device's limit allows.
        self.machine.do("systemctl reset-failed graftd; systemctl restart graftd")

    def listed(self):
        """What is said of the labels of each sample that the device has, by its id."""
        # Without the boxes, which are long: id, source, labels, why.
        lines = self.machine.do("graftd samples list 2>/dev/null").splitlines()
        return {parts[0]: parts[2] for parts in (line.split("  ") for line in lines)}

    def sample(self, sample):
        """All that is known of one."""
        return self.machine.json(f"graftd samples show {sample} --json")

    def evidence(self):
        """What helps to see why something failed."""
        try:
            return self.machine.run("systemctl status graftd --no-pager -n 0; journalctl -u graftd --no-pager -n 40")[1]
        except (OSError, Failed) as error:
            return f"(the machine does not answer: {error})"
