"""The package of a board is installed, finds its runtime, and runs; and in the end all of it goes away."""

from camera import at_each_boot, captures, flows
from checks import check, equal, step
from service import start_broker

DEB = "/host/graftd.deb"
APT = "DEBIAN_FRONTEND=noninteractive apt-get -o APT::Sandbox::User=root -y -q --no-install-recommends"


@step("apt installs the package; user, folders, unit and configuration are there, and nothing is started")
def package(device):
    do = device.machine.do
    do(f"{APT} install {DEB}", device.machine.patience * 3)
    equal("the package", do("dpkg-query -W -f '${db:Status-Abbrev}' graftd").strip(), "ii")
    equal("the architecture", do("dpkg --print-architecture"), "arm64")
    equal("the state", do("stat -c '%a %U %G' /var/lib/graftd"), "750 graftd graftd")
    equal("the unit", device.property("ActiveState"), "inactive")
    equal("enabled", device.machine.run("systemctl is-enabled graftd")[1].strip(), "disabled")
    do("graftd config check")
    return do("graftd --version") + ", " + do("stat -c '%s bytes' /usr/bin/graftd")


@step("`graftd-fetch-onnxruntime` takes the library by its path, and no other file")
def runtime(device):
    do = device.machine.do
    status, said = device.machine.run("graftd-fetch-onnxruntime --from /usr/bin/graftd")
    check(status == 1 and "this is not libonnxruntime" in said, f"exit status {status}: {said}")
    do("graftd-fetch-onnxruntime --from /host/libonnxruntime.so")
    return do("readlink /usr/lib/graftd/libonnxruntime.so")


@step("`graftd init` finds the camera and the library, and `graftd doctor` finds nothing that keeps it from working")
def doctor(device):
    do = device.machine.do
    at_each_boot(device)
    do("modprobe vivid && udevadm settle")
    do("graftd init --force && graftd config check")
    # On the small model, which this machine has the time for.
    do("install -m 644 /host/small.onnx /usr/share/graftd/")
    device.configure()
    said = device.machine.json("graftd doctor --json")
    found = {finding["what"]: finding for finding in said["findings"]}
    for what in ["board", "config", "runtime", "camera", "memory", "disk"]:
        check(found[what]["verdict"] == "fine", f"{what}: {found[what]}")
    check("/usr/lib/graftd/libonnxruntime.so" in found["runtime"]["words"], found["runtime"])
    return "; ".join(finding["words"] for finding in found.values() if finding["what"] in ["board", "runtime", "camera"])


@step("the service comes up and frames come from /dev/video0; one that is asked for is in the store, whole")
def comes_up(device):
    do = device.machine.do
    start_broker(device)
    do("systemctl enable --quiet --now graftd")
    flows(device)
    equal("the runtime", device.state()["runtime"], "ort")
    return captures(device)


@step("the package is installed anew over the running service: it is started again, and the configuration stays")
def again(device):
    do = device.machine.do
    before, pid, written = device.listed(), device.pid(), do("sha256sum /etc/graftd/graftd.toml")
    do(f"{APT} install --reinstall {DEB}", device.machine.patience * 3)
    device.machine.until("a new process", lambda: device.pid() not in (0, pid))
    flows(device)
    equal("the configuration", do("sha256sum /etc/graftd/graftd.toml"), written)
    check(before.items() <= device.listed().items(), "samples or labels are lost")


@step("`apt remove` leaves the state, `apt purge` takes all away", at_the_end=True)
def purged(device):
    do = device.machine.do
    do(f"{APT} remove graftd", device.machine.patience * 3)
    do("test -e /var/lib/graftd/models/current.onnx && test -e /etc/graftd/graftd.toml")
    equal("the program", device.machine.run("test -e /usr/bin/graftd")[0], 1)
    do(f"{APT} purge graftd", device.machine.patience * 3)
    # The model that the tests have laid beside the package's is theirs.
    left = do("find /etc/graftd /var/lib/graftd /usr/lib/graftd /run/graftd /usr/share/graftd -type f 2>/dev/null || true")
    equal("what is left", left, "/usr/share/graftd/small.onnx")
