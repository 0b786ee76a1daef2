//! Which board this is, and which ONNX Runtime it wants: what works, and what does not.
//!
//! graftd asks ONNX Runtime for its CPU provider and for no other, so that on every board the CPU detects and
//! trains; what is said of other processors is why another library brings nothing yet.

use serde::Serialize;

use super::root::Root;

/// The library that every machine can take.
const CPU_PACKAGE: &str = "libonnxruntime 1.24 to 1.32 for the CPU, which graftd-fetch-onnxruntime fetches (in a \
                           checkout scripts/fetch-onnxruntime.sh)";

/// A board and what to install on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Board {
    /// As the board says itself.
    pub model: String,
    /// What graftd knows it as.
    pub known_as: &'static str,
    /// The runtime to install.
    pub package: &'static str,
    /// What detects and makes features.
    pub backbone: &'static str,
    /// What trains.
    pub training: &'static str,
    /// Of the processor beside the CPU, or of what else is particular there.
    pub note: &'static str,
}

/// What is known of a kind of board. `compatible` are names of its chip in the device tree
/// (`/proc/device-tree/compatible`), which stay the same over all makers.
struct Known {
    compatible: &'static [&'static str],
    name: &'static str,
    note: &'static str,
}

const RIBBON: &str = "a camera on the ribbon cable gives raw pictures that graftd can't read: take a USB camera, or \
                      serve it as MJPEG or RTSP";

/// NVIDIA publishes no general package for these; the wheel `onnxruntime-gpu` of the package index is for other
/// machines.
const JETSON: &str = "its GPU needs an onnxruntime-gpu that was built for its JetPack, and a graftd that asks for CUDA, \
                      which this one does not: with such a library it takes the CPU all the same";

/// ONNX Runtime's RKNPU provider is for the RK1808 and its kind; later chips take models that RKNN-Toolkit2 has
/// converted on another machine.
const ROCKCHIP: &str = "its NPU has no provider in ONNX Runtime (RKNPU's is for the RK1808), and takes models that \
                        RKNN-Toolkit2 converted on another machine: graftd leaves it alone";

const QUALCOMM: &str = "its NPU has a provider, QNN, that wants a model in whole numbers or half floats: a backbone at \
                        best, no training; this graftd does not ask for it";

const KNOWN: &[Known] = &[
    Known { compatible: &["brcm,bcm2712"], name: "Raspberry Pi 5", note: RIBBON },
    Known { compatible: &["brcm,bcm2711"], name: "Raspberry Pi 4", note: RIBBON },
    Known { compatible: &["brcm,bcm2837", "brcm,bcm2710"], name: "Raspberry Pi 3 or Zero 2", note: RIBBON },
    Known { compatible: &["nvidia,tegra264"], name: "Jetson Thor", note: JETSON },
    Known { compatible: &["nvidia,tegra234"], name: "Jetson Orin", note: JETSON },
    Known { compatible: &["nvidia,tegra194"], name: "Jetson Xavier", note: JETSON },
    Known { compatible: &["nvidia,tegra186", "nvidia,tegra210"], name: "Jetson TX or Nano", note: JETSON },
    Known { compatible: &["rockchip,rk3588", "rockchip,rk3588s"], name: "RK3588 board", note: ROCKCHIP },
    Known { compatible: &["rockchip,"], name: "Rockchip board", note: ROCKCHIP },
    Known { compatible: &["qcom,"], name: "Qualcomm board", note: QUALCOMM },
];

const NVIDIA: &str = "its GPU needs libonnxruntime out of the wheel `onnxruntime-gpu`, and a graftd that asks for CUDA, \
                      which this one does not: the CPU is taken";
const INTEL: &str = "the wheel `onnxruntime-openvino` has a provider for Intel's GPUs and NPUs; this graftd does not ask \
                     for it: the CPU is taken";

impl Board {
    /// Looks at the device tree, or at the processor where there is none.
    pub fn look(root: &Root) -> Board {
        let compatible = root.text("/proc/device-tree/compatible").unwrap_or_default();
        let chips: Vec<&str> = compatible.split('\0').collect();
        let is = |wanted: &&str| {
            chips.iter().any(|chip| chip == wanted || wanted.ends_with(',') && chip.starts_with(wanted))
        };
        let known = KNOWN.iter().find(|known| known.compatible.iter().any(&is));
        let (name, note) = match known {
            Some(known) => (known.name, known.note),
            None => other(root),
        };
        let model = root
            .text("/proc/device-tree/model")
            .or_else(|| root.text("/sys/class/dmi/id/product_name"))
            .filter(|model| !model.is_empty());
        Board {
            model: model.unwrap_or_else(|| "a machine that does not say its name".into()),
            known_as: name,
            package: CPU_PACKAGE,
            backbone: "CPU",
            training: "CPU",
            note,
        }
    }

    /// For people.
    pub fn words(&self) -> String {
        let Board { model, known_as, package, backbone, training, note } = self;
        let note = if note.is_empty() { String::new() } else { format!("; {note}") };
        format!("{model} ({known_as}): detects on {backbone}, trains on {training}, wants {package}{note}")
    }
}

fn other(root: &Root) -> (&'static str, &'static str) {
    if root.text("/proc/driver/nvidia/version").is_some() {
        return ("PC with an NVIDIA GPU", NVIDIA);
    }
    let processor = root.text("/proc/cpuinfo").unwrap_or_default();
    let is =
        |vendor: &str| processor.lines().any(|line| line.starts_with("vendor_id") && line.ends_with(vendor));
    match () {
        () if is("GenuineIntel") => ("Intel PC", INTEL),
        () if is("AuthenticAMD") => ("AMD PC", ""),
        () => ("unknown board", ""),
    }
}
