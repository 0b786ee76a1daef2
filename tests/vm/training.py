"""It learns: labels come over MQTT, a run ends, its model detects; and all of it outlives a new program."""

from camera import control, flows
from checks import check, equal, step

# What vivid draws in the middle of each of its patterns, in shares of the frame.
SQUARE = {"class": "crown", "cx": 0.5, "cy": 0.5, "w": 0.3, "h": 0.4}
# Its number says which pattern. The others have no middle.
PATTERNS = [0, 1, 3, 4, 7, 8, 9, 20]
# A model of random weights has much to learn.
TRAIN = 'gate_confidence = 0.0\ndistill = "off"\nbatch = 4\nlr = 0.01'


def event(device, *names, since=0):
    """The last of these that was told of a run, after so many messages."""
    told = [p for t, p in device.heard()[since:] if t.startswith("event/run/") and p["event"] in names]
    return told[-1] if told else None


@step("frames of /dev/video0 are labelled over MQTT, a run ends, and its model is promoted")
def trains(device):
    control(device, "show_square")
    control(device, "osd_text_mode", 2)
    for number, pattern in enumerate(PATTERNS):
        control(device, "test_pattern", pattern)
        sample = device.command("capture")["sample"]
        device.command("label", sample=sample, boxes=[SQUARE], holdout=number % 4 == 3)
    device.configure(train=TRAIN)
    device.machine.do("systemctl reload graftd")
    long = device.machine.patience * 10
    result = device.command("train", within=long, scope="head", epochs=30, views=4, patience=0)
    check(result["promoted"], result["reason"])
    equal("the slot", device.wait_for_state("another slot", lambda state: state["slot"] != 0)["slot"], result["slot"])
    device.machine.do(f"cmp {current(device)} /var/lib/graftd/models/current.onnx")
    flows(device)
    return f"{result['reason']}; {result['seconds']:.0f} s on {device.state()['runtime']}"


def current(device):
    return device.machine.do("readlink -f /var/lib/graftd/models/current.onnx")


@step("a new program takes over in the middle of a run: the run goes on, samples, labels and model are there")
def upgraded(device):
    do = device.machine.do
    so_far = len(device.heard())
    topic = device.begin("train", epochs=100_000, patience=0)
    run = device.machine.until("an epoch", lambda: event(device, "epoch", since=so_far))["run"]
    before, model = device.listed(), do(f"sha256sum <{current(device)}")
    install(device)
    do("systemctl restart graftd")
    status, _ = device.machine.run(f"readlink /proc/{device.pid()}/exe | grep deleted")
    equal("the program that runs is the new one", status, 1)
    device.machine.until("the run to be taken up", lambda: (event(device, "resumed") or {}).get("run") == run)
    flows(device)
    after = device.listed()
    lost = [sample for sample, labels in before.items() if after.get(sample) != labels]
    check(not lost, f"samples or their labels are lost: {lost}")
    equal("the model", do(f"sha256sum <{current(device)}"), model)
    device.command("cancel")
    answer = device.machine.until("the run's answer", lambda: device.answer(topic))
    equal("the run's answer", answer["status"], "failed")


def install(device):
    """As a package does: the new file takes the name of the old one, which still runs."""
    device.machine.do("install -m 755 /host/graftd /usr/bin/graftd.new && mv /usr/bin/graftd.new /usr/bin/graftd")
