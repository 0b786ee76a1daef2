"""A virtual machine: boots, does what it is told, and loses its power."""

import base64
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

QEMU = {"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}
CONSOLE = {"amd64": "ttyS0", "arm64": "ttyAMA0"}
NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}


class Failed(Exception):
    """What was tried did not come out as it must."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Machine:
    """Its disk is a layer over the image, which stays as it is. `share` is seen, read-only, as /host."""

    def __init__(self, arch, image, folder, share, memory="2G"):
        self.arch, self.image, self.folder, self.share = arch, image, folder, share
        self.memory = memory
        self.disk = folder / "disk.qcow2"
        self.socket = folder / "shell.sock"
        self.broker_port = free_port()
        self.process = self.shell = None
        self.sent = 0
        self.accelerator = os.environ.get("VM_ACCEL") or ("kvm" if self._may_be_virtualised() else "tcg")

    @property
    def patience(self):
        """Seconds that anything may take."""
        return 60 if self.accelerator == "kvm" else 300

    def _may_be_virtualised(self):
        same = NATIVE.get(os.uname().machine) == self.arch
        return same and os.access("/dev/kvm", os.R_OK | os.W_OK)

    def make_disk(self):
        self.disk.unlink(missing_ok=True)
        backing = str((self.image / "disk.img").resolve())
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", backing, self.disk], check=True)

    def boot(self):
        """Until the guest answers."""
        if self._try_to_boot(self.patience if self.accelerator == "kvm" else 15 * 60):
            self.do("modprobe 9pnet_virtio && mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000 host /host")
            return
        self.cut_power()
        if self.accelerator == "tcg":
            raise Failed(f"the machine does not boot; see the console's log in {self.folder}")
        # Some hosts have /dev/kvm and run no kernel that is not made for them.
        print("vm: nothing boots with KVM on this machine; it is emulated, which is slow", flush=True)
        self.accelerator = "tcg"
        self.boot()

    def _try_to_boot(self, seconds):
        self.socket.unlink(missing_ok=True)
        board = {"amd64": ["-M", "q35"], "arm64": ["-M", "virt"]}[self.arch]
        if self.accelerator == "kvm":
            processor = {"amd64": "host,-arch-capabilities", "arm64": "host"}[self.arch]
        else:
            # The A76 is what a Raspberry Pi 5 and an RK3588 have.
            processor = {"amd64": "max", "arm64": "cortex-a76"}[self.arch]
        tty = CONSOLE[self.arch]
        command = [
            QEMU[self.arch], *board, "-accel", self.accelerator, "-cpu", processor, "-smp", "2", "-m", self.memory,
            "-nodefaults", "-display", "none", "-no-reboot",
            "-kernel", self.image / "vmlinuz", "-initrd", self.image / "initrd.img",
            "-append", f"root=/dev/vda rw console={tty} panic=-1 quiet systemd.show_status=true",
            "-drive", f"file={self.disk},if=virtio,format=qcow2,cache=writeback",
            "-serial", f"file:{self.folder}/console-{time.strftime('%H%M%S')}.log",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=shell,path={self.socket},server=on,wait=off",
            "-device", "virtserialport,chardev=shell,name=shell",
            "-device", "virtio-rng-pci",
            # The guest reaches nobody; its broker can be reached from here.
            "-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.broker_port}-:1883",
            "-device", "virtio-net-pci,netdev=net",
            "-virtfs", f"local,path={self.share},mount_tag=host,security_model=none,readonly=on",
        ]
        with open(self.folder / "qemu.log", "ab") as log:
            self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                print(f"vm: qemu has ended; see {self.folder}/qemu.log", flush=True)
                return False
            try:
                self._connect()
                self.run("true", patience=5)
                return True
            except (OSError, Failed):
                time.sleep(0.5)
        return False

    def _connect(self):
        if self.shell is None:
            shell = socket.socket(socket.AF_UNIX)
            shell.connect(str(self.socket))
            self.shell = shell

    def _disconnect(self):
        if self.shell is not None:
            self.shell.close()
            self.shell = None

    def run(self, command, patience=None):
        """Runs it as root in the guest; gives its exit status and what it said."""
        self._connect()
        self.sent += 1
        self.shell.settimeout(patience or self.patience)
        try:
            self.shell.sendall(f"{self.sent} ".encode() + base64.b64encode(command.encode()) + b"\n")
            # What is left of an answer that nobody waited for any more may come first.
            while not (line := self._line()).startswith(f"{self.sent} ".encode()):
                pass
            _, status, said = line.split(b" ", 2)
            return int(status), base64.b64decode(said).decode(errors="replace")
        except TimeoutError:
            raise Failed(f"no answer to: {command}") from None

    def _line(self):
        line = b""
        while not line.endswith(b"\n"):
            more = self.shell.recv(65536)
            if not more:
                raise Failed("the machine has hung up")
            line += more
        return line

    def do(self, command, patience=None):
        """Runs it, and it must work; gives what it said."""
        status, said = self.run(command, patience)
        if status != 0:
            raise Failed(f"{command}: exit status {status}: {said.strip()}")
        return said.strip()

    def json(self, command):
        return json.loads(self.do(f"{command} 2>/dev/null"))

    def wait(self, what, command, patience=None):
        """Runs it until it works; gives what it said."""
        return self.until(what, lambda: self._said_if_it_works(command), patience)

    def _said_if_it_works(self, command):
        status, said = self.run(command)
        return (said.strip() or True) if status == 0 else None

    def until(self, what, condition, patience=None):
        """Asks until there is an answer other than none."""
        deadline = time.monotonic() + (patience or self.patience)
        while True:
            answer = condition()
            if answer:
                return answer
            if time.monotonic() > deadline:
                raise Failed(f"waited in vain for {what}")
            time.sleep(0.2)

    def cut_power(self):
        """At once: what the guest has not written is lost."""
        self._disconnect()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def shut_down(self):
        """In good order."""
        self.run("systemctl poweroff")
        try:
            self.process.wait(timeout=self.patience)
        except subprocess.TimeoutExpired:
            raise Failed("it does not shut down") from None
        finally:
            self.cut_power()


def image(arch, suite, folder):
    """The image, which is made where it is missing."""
    script = pathlib.Path(__file__).with_name("image.sh")
    subprocess.run([script, arch, suite, folder], check=True)
    return folder


def share(folder, files):
    """Lays files and folders under these names into a new folder, which the guest sees as /host."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, path in files.items():
        if not path.exists():
            sys.exit(f"vm: {path} is missing")
        (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / name)
    return folder
