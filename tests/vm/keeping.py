"""systemd keeps it alive: killed, hanging, wrongly configured, reloaded, stopped."""

import time

from camera import flows
from checks import check, equal, step
from device import CONFIG


@step("killed, it is started again, and nothing that was acknowledged is missing")
def killed(device):
    before = int(device.property("NRestarts"))
    for number in range(3):
        sample = device.command("capture")["sample"]
        device.command("label", sample=sample, boxes=[])
        pid = device.pid()
        device.machine.do(f"kill -9 {pid}")
        device.machine.until("a new process", lambda: device.pid() not in (0, pid))
        equal("restarts", int(device.property("NRestarts")), before + number + 1)
        flows(device)
        listed = device.listed()
        missing = device.samples_told() - listed.keys()
        check(not missing, f"{missing} are missing")
        check(listed[sample] != "no labels", f"the label of {sample} is missing")


@step("hanging, it is killed by the watchdog and started again")
def hangs(device):
    device.drop_in("watchdog", "[Service]\nWatchdogSec=20s\n")
    device.restart()
    flows(device)
    before, pid = int(device.property("NRestarts")), device.pid()
    # It is fed, so it lives on for longer than that.
    deadline = time.monotonic() + 45
    while time.monotonic() < deadline:
        equal("the process", device.pid(), pid)
        time.sleep(1)
    device.machine.do(f"kill -STOP {pid}")
    device.machine.until("a new process", lambda: device.pid() not in (0, pid), 120)
    equal("restarts", int(device.property("NRestarts")), before + 1)
    device.machine.do("journalctl -u graftd --no-pager | grep -q 'Watchdog timeout'")
    device.drop_in("watchdog", None)
    device.restart()
    flows(device)


@step("`systemctl reload` applies a new configuration, in the same process")
def reloaded(device):
    pid = device.pid()
    device.configure(train='when = "02:00-05:00"\nnew_labels = 77')
    device.machine.do("systemctl reload graftd")
    waits = device.wait_for_state("the new schedule", lambda state: "77" in str(state["waits_for"]))["waits_for"]
    equal("the process", device.pid(), pid)
    equal("the unit", device.property("ActiveState"), "active")
    return f"Type={device.property('Type')}; waits for {waits}"


@step("a wrong configuration is refused at a reload: the old one holds, and it is said what is wrong")
def refused(device):
    pid = device.pid()
    device.configure(train="new_labels = 88\nepoch = 3")
    device.machine.do("systemctl reload graftd")
    state = device.wait_for_state("the fault", lambda state: "epoch" in str(state["faults"]))
    check("77" in str(state["waits_for"]), state["waits_for"])
    check(f"{CONFIG}:" in str(state["faults"]), state["faults"])
    equal("the process", device.pid(), pid)
    device.configure()
    device.machine.do("systemctl reload graftd")
    device.wait_for_state("no fault", lambda state: not state["faults"])


@step("`systemctl stop` ends it in good order and in time, and everything is sent")
def stopped(device):
    begun = time.monotonic()
    device.machine.do("systemctl stop graftd")
    took = time.monotonic() - begun
    check(took < 20, f"it took {took:.1f} s")
    equal("the result", (device.property("Result"), device.property("ExecMainStatus")), ("success", "0"))
    device.machine.until("`offline`", lambda: [p for t, p in device.heard() if t == "status"][-1] == "offline")
    equal("the socket's folder", device.machine.run("test -e /run/graftd")[0], 1)
    return f"{took:.1f} s"


@step("what root looks at while it is stopped stays the service's own")
def looked_at_by_root(device):
    do = device.machine.do
    do("graftd samples list; graftd samples verify; graftd models list; graftd status; graftd runs")
    equal("files of others in the state", do("find /var/lib/graftd ! -user graftd"), "")
    do("systemctl start graftd")
    flows(device)


@step("a wrong configuration at the start ends it with 2, and it is not started again and again")
def not_restarted(device):
    device.configure(train="epoch = 3")
    status, _ = device.machine.run("systemctl restart graftd")
    check(status != 0, "systemctl says that it has started")
    time.sleep(5)
    equal("the unit", device.property("ActiveState"), "failed")
    equal("the exit status", device.property("ExecMainStatus"), "2")
    equal("restarts", device.property("NRestarts"), "0")
    said = device.machine.do("journalctl -u graftd --no-pager -n 20 -o cat")
    check("epoch" in said, said)
    device.configure()
    device.restart()
    flows(device)


@step("one that can't live is given up after ten starts, and lives again when it is asked to")
def given_up(device):
    # What is killed first was started before the limit counts anew.
    device.machine.do("systemctl reset-failed graftd")
    killed = set()

    def kill():
        pid = device.pid()
        if pid:
            device.machine.run(f"kill -9 {pid}")
            killed.add(pid)
        return device.property("ActiveState") == "failed"

    device.machine.until("the limit", kill, device.machine.patience * 3)
    equal("starts", len(killed) - 1, 10)
    device.restart()
    flows(device)


@step("a password comes by LoadCredential, and is in no log and no environment")
def password(device):
    do = device.machine.do
    do("mosquitto_passwd -b -c /etc/mosquitto/passwords graftd kept-secret && chown mosquitto /etc/mosquitto/passwords")
    do("systemctl restart mosquitto")
    secret = "/etc/graftd/secrets/mqtt-password"
    do(f"umask 077 && echo kept-secret >{secret}")
    device.drop_in("password", f"[Service]\nLoadCredential=mqtt-password:{secret}\n")
    device.configure(broker="mqtt://graftd@127.0.0.1:1884", mqtt='password_file = "mqtt-password"')
    device.restart()
    flows(device)
    do("ss -Htn state established dport = :1884 | grep -q .")
    equal("the rights", do(f"stat -c '%a %U' {secret}"), "600 root")
    status, _ = device.machine.run(
        f"journalctl --no-pager | grep kept-secret; tr '\\0' '\\n' </proc/{device.pid()}/environ | grep kept-secret")
    check(status != 0, "the password is to be seen")
    # A wrong one is told, and keeps nobody from detecting.
    do(f"echo wrong >{secret}")
    device.restart()
    told = lambda: device.machine.json("graftd status --json")["state"]
    state = device.machine.until("the refusal to be told", lambda: told()["faults"] and told())
    check(state["frames"] > 0, state)
    do(f"rm {secret}")
    device.drop_in("password", None)
    device.configure()
    device.restart()
    flows(device)
    return str(state["faults"])
