//! `graftd doctor` through the real program, on machines that are made up: each board is known by what its kernel
//! says, and what is not well is named with what to do.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use serde_json::Value;
use support::{goldens, graftd};

/// A machine's file tree, and a configuration.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    /// One on which all is well.
    fn new() -> Self {
        let machine = Machine { folder: tempfile::tempdir().unwrap() };
        machine.write("proc/meminfo", "MemTotal:        4028664 kB\nMemAvailable:    3214560 kB\n");
        machine.write("run/systemd/timesync/synchronized", "");
        machine.write("sys/class/rtc/rtc0/name", "rpi-rtc\n");
        machine.write("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
        machine.write("sys/class/thermal/thermal_zone0/temp", "48750\n");
        machine.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
        machine.write(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\ngraftd:x:4242:4243::/:/sbin/nologin\nhen:x:77:78::/:\n",
        );
        machine.configure("");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn configure(&self, more: &str) {
        let base = goldens("exports").join("yolo12n.onnx");
        self.write("graftd.toml", &format!("state_dir = \"state\"\n[model]\nbase = {base:?}\n{more}"));
    }

    /// A camera of the kernel's, which only root and this group may use.
    fn plug_in(&self, name: &str) -> u32 {
        self.write(name, "");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o660)).unwrap();
        fs::metadata(self.path(name)).unwrap().gid()
    }

    fn examine(&self, user: &str) -> (Option<i32>, Value) {
        let mut command = graftd();
        command.args(["doctor", "--json", "--user", user, "--root"]).arg(self.folder.path());
        let output = command.arg("--config").arg(self.path("graftd.toml")).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(report["ok"], output.status.success());
        (output.status.code(), report)
    }

    /// What is said of something, as `verdict words`.
    fn said(&self, what: &str, user: &str) -> Vec<String> {
        let (_, report) = self.examine(user);
        let findings = report["findings"].as_array().unwrap().iter();
        let of_it = findings.filter(|finding| finding["what"] == what);
        of_it.map(|finding| format!("{} {}", text(&finding["verdict"]), text(&finding["words"]))).collect()
    }

    #[track_caller]
    fn says(&self, what: &str, verdict: &str, words: &str) {
        let said = self.said(what, "graftd");
        assert!(
            said.iter().any(|said| said.starts_with(verdict) && said.contains(words)),
            "{what}: {said:#?}"
        );
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn each_board_is_known_by_what_it_says() {
    for (model, compatible, known_as, note) in [
        (
            "Raspberry Pi 5 Model B Rev 1.0",
            "raspberrypi,5-model-b\0brcm,bcm2712\0",
            "Raspberry Pi 5",
            "USB camera",
        ),
        (
            "Raspberry Pi 4 Model B Rev 1.5",
            "raspberrypi,4-model-b\0brcm,bcm2711\0",
            "Raspberry Pi 4",
            "USB camera",
        ),
        (
            "NVIDIA Jetson Orin Nano Developer Kit",
            "nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0",
            "Jetson Orin",
            "does not: with such a library it takes the CPU",
        ),
        (
            "NVIDIA Jetson Xavier NX Developer Kit",
            "nvidia,p3509-0000+p3668-0001\0nvidia,tegra194\0",
            "Jetson Xavier",
            "CUDA",
        ),
        ("Radxa ROCK 5B", "radxa,rock-5b\0rockchip,rk3588\0", "RK3588 board", "RKNN-Toolkit2"),
        ("Orange Pi 5", "rockchip,rk3588s-orangepi-5\0rockchip,rk3588s\0", "RK3588 board", "RKNN-Toolkit2"),
        ("Radxa ROCK 3A", "radxa,rock3a\0rockchip,rk3568\0", "Rockchip board", "RKNN-Toolkit2"),
        ("Radxa Dragon Q6A", "radxa,dragon-q6a\0qcom,qcs6490\0", "Qualcomm board", "QNN"),
        ("Pine64 PineH64", "pine64,pine-h64\0allwinner,sun50i-h6\0", "unknown board", ""),
    ] {
        let machine = Machine::new();
        machine.write("proc/device-tree/model", &format!("{model}\0"));
        machine.write("proc/device-tree/compatible", compatible);
        let (code, report) = machine.examine("graftd");
        assert_eq!(code, Some(0), "{report}");
        let board = &report["board"];
        assert_eq!((text(&board["model"]), text(&board["known_as"])), (model, known_as));
        assert!(text(&board["note"]).contains(note), "{board}");
        assert_eq!((text(&board["backbone"]), text(&board["training"])), ("CPU", "CPU"));
        machine.says("board", "fine", &format!("{model} ({known_as}): detects on CPU"));
    }
}

#[test]
fn a_machine_without_a_device_tree_is_known_by_its_processor() {
    let machine = Machine::new();
    machine.write("sys/class/dmi/id/product_name", "NUC11TNHi5\n");
    machine.write("proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\n");
    machine.says("board", "fine", "NUC11TNHi5 (Intel PC)");
    machine.write("proc/cpuinfo", "processor\t: 0\nvendor_id\t: AuthenticAMD\n");
    machine.says("board", "fine", "(AMD PC)");
    machine.write("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX\n");
    machine.says("board", "fine", "(PC with an NVIDIA GPU)");
}

#[test]
fn a_model_is_tried_on_the_runtime_that_is_there() {
    let machine = Machine::new();
    machine.says("runtime", "fine", "ONNX Runtime from ");
    machine.says("model", "fine", " ms a frame");
    machine.configure("[camera]\nsource = \"test\"\nfps = 1000.0\n");
    machine.says("model", "warn", "too slow for camera.fps = 1000");
    machine.configure("[runtime]\nbackbone = \"tract\"\ntraining = \"tract\"\n");
    machine.says("runtime", "fine", "tract, as the configuration says");
    machine.configure("[runtime]\nlibrary = \"/nowhere/libonnxruntime.so\"\n");
    machine.says("runtime", "bad", "this machine wants libonnxruntime");
    machine.write("no.onnx", "no model");
    machine.write("graftd.toml", "state_dir = \"state\"\n[model]\nbase = \"no.onnx\"\n");
    machine.says("model", "bad", "no.onnx");
}

#[cfg(feature = "v4l2")]
#[test]
fn a_camera_that_may_not_be_used_is_named_with_what_to_do() {
    let machine = Machine::new();
    machine.says("camera", "warn", "none is plugged in");
    let group = machine.plug_in("dev/video0");
    // The unit gives graftd the group video, whoever else is in it.
    machine.write("etc/group", &format!("video:x:{group}:hen\ngraftd:x:4243:\n"));
    machine.says("camera", "fine", "/dev/video0: graftd may use it");
    assert!(machine.said("camera", "hen")[0].starts_with("fine"));
    machine.write("etc/group", &format!("video:x:{}:hen\ngraftd:x:4243:\n", group + 1));
    let (code, report) = machine.examine("graftd");
    assert_eq!(code, Some(1), "{report}");
    machine.says("camera", "bad", "usermod -aG video graftd");
    // Where frames come from elsewhere it keeps nobody from working.
    machine.configure("[camera]\nsource = \"test\"\n");
    machine.says("camera", "warn", "usermod -aG video graftd");
    machine.says("camera", "fine", "test is the source");
    machine.configure("[camera]\nsource = \"/dev/video7\"\n");
    machine.says("camera", "warn", "/dev/video7: it is not there");
    let mut nobody = graftd();
    let nobody = nobody.args(["doctor", "--user", "nobody-knows-me"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(2));
}

#[test]
fn clock_heat_and_room_are_looked_at() {
    let machine = Machine::new();
    machine.says("clock", "fine", "synchronised");
    machine.says("heat", "fine", "cpu-thermal, the warmest, has 49 °C; runs wait above 75 °C");
    machine.says("memory", "fine", "3139 MB of 3934 MB");
    machine.says("disk", "fine", "frames take at most 4096 MB");

    fs::remove_file(machine.path("run/systemd/timesync/synchronized")).unwrap();
    machine.says("clock", "warn", "timedatectl set-ntp true");
    fs::remove_dir_all(machine.path("sys/class/rtc")).unwrap();
    machine.says("clock", "warn", "no clock that goes on without power");
    machine.write("sys/class/thermal/thermal_zone1/type", "gpu-thermal\n");
    machine.write("sys/class/thermal/thermal_zone1/temp", "81200\n");
    machine.says(
        "heat",
        "warn",
        "gpu-thermal, the warmest, has 81 °C; runs wait above train.max_celsius = 75",
    );
    machine.write("sys/class/thermal/thermal_zone1/temp", "55000\n");
    machine.write("sys/class/thermal/thermal_zone1/trip_point_0_type", "critical\n");
    machine.write("sys/class/thermal/thermal_zone1/trip_point_0_temp", "115000\n");
    machine.says("heat", "fine", "gpu-thermal");
    machine.write("sys/class/thermal/thermal_zone1/trip_point_1_type", "passive\n");
    machine.write("sys/class/thermal/thermal_zone1/trip_point_1_temp", "70000\n");
    machine.says("heat", "warn", "slows down from 70 °C on");
    fs::remove_dir_all(machine.path("sys/class/thermal")).unwrap();
    machine.says("heat", "warn", "no temperature");
    machine.write("proc/meminfo", "MemTotal:         436408 kB\nMemAvailable:     214560 kB\n");
    machine.says("memory", "warn", "209 MB of 426 MB");
    machine.write("proc/meminfo", "MemTotal:         436408 kB\nMemAvailable:     101888 kB\n");
    machine.says("memory", "bad", "150 MB to detect and 300 MB to train");
    machine.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n");
    machine.says("memory", "warn", "cgroup_enable=memory");
    machine.configure("[store]\nmin_free_mb = 999999999\n");
    machine.says("disk", "bad", "make room");
}

#[test]
fn a_broker_that_is_not_there_and_a_wrong_configuration_are_named() {
    let machine = Machine::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    machine.configure(&format!("[mqtt]\nbroker = \"mqtt://localhost:{port}\"\n"));
    machine.says("broker", "fine", &format!("localhost:{port}"));
    drop(listener);
    machine.says("broker", "warn", "can't be reached");
    machine.configure("[train]\nmax_celsius = 900\n");
    machine.says("config", "bad", "train.max_celsius");
    let (code, _) = machine.examine("graftd");
    assert_eq!(code, Some(1));
    fs::remove_file(machine.path("graftd.toml")).unwrap();
    machine.says("config", "warn", "graftd init writes one");
}

#[test]
fn people_get_a_line_for_each() {
    let machine = Machine::new();
    machine.write("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0");
    let mut command = graftd();
    command.args(["doctor", "--root"]).arg(machine.folder.path());
    let output = command.arg("--config").arg(machine.path("graftd.toml")).output().unwrap();
    let page = String::from_utf8(output.stdout).unwrap();
    for (mark, what) in [("fine", "board"), ("fine", "runtime"), ("warn", "camera"), ("fine", "disk")] {
        assert!(page.lines().any(|line| line.starts_with(&format!("{mark:<6}{what:<9}"))), "{page}");
    }
    // And on whatever machine this is.
    let here =
        graftd().args(["doctor", "--json", "--config"]).arg(machine.path("graftd.toml")).output().unwrap();
    let here: Value = serde_json::from_slice(&here.stdout).unwrap();
    assert!(here["findings"].as_array().unwrap().len() >= 8, "{here}");
}
