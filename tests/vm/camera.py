"""A camera of the kernel's, and all that a camera can do wrong."""

import base64

from checks import check, equal, step

UNBIND = "echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind"
BIND = "echo vivid.0 >/sys/bus/platform/drivers/vivid/bind"


def is_on(state):
    return state["camera"] == "on"


def away_for(*words):
    """Whether it is away, for a reason that has these words."""

    def condition(state):
        trouble = state["camera_trouble"]
        return state["camera"] == "away" and trouble and all(word in trouble["reason"] for word in words)

    return condition


def control(device, name, value=1):
    """Sets one of vivid's controls, or presses it."""
    device.machine.do(f"v4l2-ctl -d /dev/video0 -c {name}={value}")


def flows(device, patience=None):
    """Frames come."""
    seen = device.state()["frames"]
    device.wait_for_state("more frames", lambda state: is_on(state) and state["frames"] > seen + 2, patience)


@step("frames come from /dev/video0 under the sandbox, and one that is asked for is in the store, whole")
def captures(device):
    flows(device)
    listed = device.sample(device.command("capture")["sample"])
    equal("its size", (listed["width"], listed["height"]), (640, 480))
    frame = device.machine.do(f"base64 -w0 '{listed['path']}'")
    (device.machine.folder / "frame.jpg").write_bytes(base64.b64decode(frame))
    return device.state()["camera_gives"]


@step("the size that is wished for is taken, or the nearest, and it is said which")
def sizes(device):
    given = []
    for wish, must in [((1280, 720), (1280, 720)), ((700, 500), None)]:
        device.configure(width=wish[0], height=wish[1])
        device.machine.do("systemctl reload graftd")
        words = f"{wish[0]}×{wish[1]}"
        state = device.wait_for_state(f"a camera that was asked for {words}", lambda state: is_on(state) and (
            words in (state["camera_gives"] or "")))
        sample = device.sample(device.command("capture")["sample"])
        size = (sample["width"], sample["height"])
        if must:
            equal("the size", size, must)
        check(f"{size[0]}×{size[1]}" in state["camera_gives"], f"{size}, and it says {state['camera_gives']}")
        given.append(state["camera_gives"])
    device.configure()
    device.machine.do("systemctl reload graftd")
    device.wait_for_state("640×480", lambda state: is_on(state) and "640×480," in (state["camera_gives"] or ""))
    return "; ".join(given)


@step("a camera that is pulled out is told as away, and comes back by itself")
def unplugged(device):
    device.machine.do(UNBIND)
    device.wait_for_state("a camera that is away", away_for("not there"))
    equal("the answer to `capture`", refused(device), True)
    device.machine.do(BIND)
    flows(device)


def refused(device):
    topic = device.begin("capture")
    answer = device.machine.until("an answer", lambda: device.answer(topic))
    return answer["status"] == "failed" and "not there" in answer["reason"]


@step("a camera that comes back under another number is found where it is plugged in")
def renumbered(device):
    do = device.machine.do
    do(UNBIND)
    device.wait_for_state("a camera that is away", away_for("not there"))
    plug_in_anew(do, "vid_cap_nr=7")
    equal("the devices", do("ls /dev/video*"), "/dev/video7")
    flows(device)
    # Back to the first number, for all that follows.
    do(UNBIND)
    plug_in_anew(do)
    flows(device)


def at_each_boot(device):
    """From the next boot on the camera is there without being asked for."""
    device.write("/etc/modules-load.d/camera.conf", "vivid\n")
    device.write("/etc/modprobe.d/camera.conf", "options vivid node_types=0x1\n")


def plug_in_anew(do, options=""):
    # Whoever had it open lets go of it in a moment.
    do("until modprobe -r vivid; do sleep 0.2; done")
    do(f"modprobe vivid node_types=0x1 {options} && udevadm settle")


@step("a driver that ends the stream with an error is opened again")
def broken_stream(device):
    control(device, "inject_fatal_streaming_error")
    device.wait_for_state("a camera that is away", lambda state: state["camera"] == "away")
    flows(device)


@step("frames that the driver calls damaged are counted, and are no reason to give the camera up")
def damaged(device):
    before = device.state()["bad_frames"]

    def one_more():
        # Each press damages one frame, and few are looked at where the processor is emulated.
        press = "v4l2-ctl -d /dev/video0 -c inject_v4l2_buf_flag_error=1"
        device.machine.do(f"for _ in $(seq 20); do {press}; done")
        return device.state()["bad_frames"] > before

    device.machine.until("damaged frames", one_more)
    flows(device)


@step("a camera that another program holds is told as busy, with who holds it as far as it may be seen")
def busy(device):
    do = device.machine.do
    do(UNBIND)
    device.wait_for_state("a camera that is away", away_for("not there"))
    do("systemctl stop graftd")
    do(BIND)
    do("systemd-run --quiet --collect --unit holder v4l2-ctl -d /dev/video0 --stream-mmap --stream-count=0")
    device.restart()
    state = device.wait_for_state("a busy camera", away_for("busy"))
    do("systemctl stop holder")
    flows(device)
    return state["camera_trouble"]["reason"]


@step("without DeviceAllow the camera can't be opened, and it is said why")
def device_allow(device):
    device.drop_in("devices", "[Service]\nDeviceAllow=\nDeviceAllow=/dev/null rw\n")
    device.restart()
    state = device.wait_for_state("a forbidden camera", lambda state: state["camera"] == "away")
    reason = state["camera_trouble"]["reason"]
    device.drop_in("devices", None)
    device.restart()
    flows(device)
    check("DeviceAllow" in reason, f"it says: {reason}")
    return reason
