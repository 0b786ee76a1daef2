"""It is installed and started: users, folders, rights, readiness, the journal, what is told at the machine itself."""

import json

from checks import check, equal, step

# Where the files of systemd/ go.
FILES = {
    "graftd.service": "/usr/lib/systemd/system/graftd.service",
    "sysusers.conf": "/usr/lib/sysusers.d/graftd.conf",
    "tmpfiles.conf": "/usr/lib/tmpfiles.d/graftd.conf",
    "70-graftd.rules": "/usr/lib/udev/rules.d/70-graftd.rules",
}


@step("the files are installed; user, groups and folders are made as they say")
def install(device):
    do = device.machine.do
    do("ls /host/graftd")
    do("install -m 755 /host/graftd /usr/bin/graftd")
    do("install -D -m 644 /host/libonnxruntime.so /usr/lib/graftd/libonnxruntime.so")
    do("install -D -m 644 -t /usr/share/graftd /host/base.onnx /host/small.onnx")
    for name, place in FILES.items():
        do(f"install -D -m 644 /host/systemd/{name} {place}")
    do("systemd-sysusers && systemd-tmpfiles --create graftd.conf && udevadm control --reload && systemctl daemon-reload")
    groups = set(do("id -Gn graftd").split())
    check({"graftd", "video", "render"} <= groups, f"graftd is in {groups}")
    for path, rights in {"/var/lib/graftd": "750 graftd graftd", "/etc/graftd": "755 root root",
                         "/etc/graftd/secrets": "700 root root"}.items():
        equal(path, do(f"stat -c '%a %U %G' {path}"), rights)


@step("udev gives cameras and DMA heaps to the group video")
def udev(device):
    do = device.machine.do
    do("modprobe vivid node_types=0x1 && udevadm settle")
    equal("/dev/video0", do("stat -c '%a %U %G' /dev/video0"), "660 root video")
    status, _ = device.machine.run("test -e /dev/dma_heap/system")
    if status != 0:
        return "this kernel has no DMA heaps"
    do("udevadm trigger --subsystem-match=dma_heap && udevadm settle")
    equal("/dev/dma_heap/system", do("stat -c '%a %G' /dev/dma_heap/system"), "660 video")


@step("`graftd init` finds camera and runtime, and what it writes is a configuration")
def init(device):
    do = device.machine.do
    do("rm -f /etc/graftd/graftd.toml && graftd init")
    do("graftd config check")
    shown = do("graftd config show")
    check("video0" in shown or "by-path" in shown, shown)


@step("`systemctl start` comes back when it is ready: the store is open and the API answers at once")
def start(device):
    do = device.machine.do
    start_broker(device)
    device.configure()
    for _ in range(2):
        do("systemctl start graftd")
        equal("the unit", device.property("ActiveState"), "active")
        do("graftd status")
        do("systemctl stop graftd")
    do("systemctl start graftd")
    device.wait_for_state("frames", lambda state: state["frames"] > 0)


def start_broker(device):
    """One that the operator can reach too, who listens from now on."""
    device.write("/etc/mosquitto/conf.d/test.conf", MOSQUITTO)
    device.machine.do("touch /etc/mosquitto/passwords && systemctl restart mosquitto")
    device.watch()


MOSQUITTO = """\
per_listener_settings true
listener 1883
allow_anonymous true
listener 1884 127.0.0.1
allow_anonymous false
password_file /etc/mosquitto/passwords
"""


@step("state and socket lie where the unit says, and belong to whom they must")
def places(device):
    do = device.machine.do
    equal("the process's user", do(f"ps -o user= -p {device.pid()}"), "graftd")
    equal("/run/graftd", do("stat -c '%a %U' /run/graftd"), "755 graftd")
    equal("the socket", do("stat -c '%F %a %U' /run/graftd/api.sock"), "socket 660 graftd")
    strangers = do("find /var/lib/graftd ! -user graftd")
    equal("files of others in the state", strangers, "")


@step("the process has no capability, can gain none, and its calls are filtered")
def sandbox(device):
    status = dict(line.split(":", 1) for line in device.machine.do(f"cat /proc/{device.pid()}/status").splitlines())
    for name, must in {"CapEff": "0000000000000000", "CapBnd": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2"}.items():
        equal(name, status[name].strip(), must)
    # In its namespace, as it sees the disk.
    look = f"nsenter -t {device.pid()} -m --"
    for path in ["/usr/bin/x", "/etc/graftd/x", "/home/x", "/root/x"]:
        status, _ = device.machine.run(f"{look} touch {path}")
        check(status != 0, f"it may write {path}")


@step("`systemd-analyze security` gives the running unit 1.5 or less")
def security(device):
    said = device.machine.do("systemd-analyze security graftd --no-pager --threshold=15 | tail -1")
    return said.strip().removeprefix("→ ")


@step("the journal has the fields of each line, and its level")
def journal(device):
    lines = [json.loads(line) for line in device.machine.do("journalctl -u graftd -o json --no-pager -b").splitlines()]
    own = [line for line in lines if line.get("_COMM") == "graftd" and line.get("_TRANSPORT") == "journal"]
    check(own, "nothing of graftd's came to the journal by itself")
    for line in own:
        missing = {"MESSAGE", "PRIORITY", "TARGET", "SYSLOG_IDENTIFIER", "CODE_FILE", "CODE_LINE"} - line.keys()
        check(not missing, f"{missing} are missing in {line}")
        equal("SYSLOG_IDENTIFIER", line["SYSLOG_IDENTIFIER"], "graftd")
        equal("_SYSTEMD_UNIT", line["_SYSTEMD_UNIT"], "graftd.service")
    words = [line for line in lines if line.get("_COMM") == "graftd" and line.get("_TRANSPORT") == "stdout"]
    check(not words, f"some go around the journal's fields: {words[:3]}")
    return f"{len(own)} lines; fields " + ", ".join(sorted({key for line in own for key in line if not key.startswith("_")}))


@step("`graftd status` tells root and the service's user what goes on, and others that they may not ask")
def status(device):
    do = device.machine.do
    page = do("graftd status")
    check("board" in page, page)
    said = device.machine.json("graftd status --json")
    check(said["state"]["frames"] > 0 and said["state"]["camera"] == "on", said)
    do("runuser -u graftd -- graftd status")
    code, said = device.machine.run("runuser -u nobody -- graftd status")
    check(code != 0 and "ermission" in said, f"exit status {code}: {said}")
    line = device.property("StatusText")
    check("slot 0" in line, f"`systemctl status` shows {line!r}")
    return line
