//! What golden tests share: where the reference values lie and how they are read.

#![allow(dead_code, reason = "each test file uses a part of this")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

pub mod api;
pub mod authority;
pub mod broker;
pub mod clock;
pub mod closing;
pub mod device;
pub mod drawn;
pub mod http;
pub mod json_schema;
pub mod ledger;
pub mod operator;
pub mod page;
pub mod port;
pub mod recompose;
#[cfg(feature = "rtsp")]
pub mod rtsp;
pub mod samples;
pub mod service;
pub mod stepper;

use std::path::{Path, PathBuf};

use graftd::tensor::Tensor;
use ndarray::{ArrayD, OwnedRepr};
use ndarray_npy::{NpzReader, ReadableElement};

/// Folder of one part of the goldens (`exports`, `loss`, …): the copy in the repository, or the
/// folder that `GRAFTD_GOLDENS` names.
pub fn goldens(part: &str) -> PathBuf {
    let root = std::env::var_os("GRAFTD_GOLDENS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/goldens"), PathBuf::from);
    let folder = root.join(part);
    assert!(
        folder.join("index.json").is_file(),
        "{} is missing: no reference values to test against",
        folder.display()
    );
    folder
}

/// The `index.json` of a part.
pub fn index(part: &str) -> serde_json::Value {
    let path = goldens(part).join("index.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Class names of an export, by the program's own word.
pub fn classes(base: &Path) -> Vec<String> {
    let output = graftd().arg("inspect").arg("--json").arg(base).output().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    value["classes"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// What stock onnxruntime says of a model: inputs, outputs, metadata, and the rows (corners, score above
/// 0.1, class) that it finds on a picture.
pub fn stock(model: &Path, picture: &Path) -> serde_json::Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/detect.py");
    let mut command = std::process::Command::new(python());
    let output = command.arg(script).arg(model).arg(picture).arg("0.1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The boxes above 0.1 that `graftd detect` finds on a picture.
pub fn found(model: &Path, picture: &Path) -> Vec<serde_json::Value> {
    let mut command = graftd();
    let command = command.args(["detect", "--json", "--conf", "0.1", "--model"]).arg(model).arg(picture);
    let found: serde_json::Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    found["boxes"].as_array().unwrap().clone()
}

/// An open `.npz` file.
pub struct Npz {
    path: PathBuf,
    reader: NpzReader<std::fs::File>,
}

impl Npz {
    /// Opens a file.
    pub fn open(path: &Path) -> Self {
        let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let reader = NpzReader::new(file).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Npz { path: path.to_owned(), reader }
    }

    /// Whether it holds an array of this name.
    pub fn has(&mut self, name: &str) -> bool {
        let names = self.reader.names().unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
        names.iter().any(|found| found.trim_end_matches(".npy") == name)
    }

    /// An array of this name and element type.
    pub fn array<T: ReadableElement>(&mut self, name: &str) -> ArrayD<T> {
        let names = self.reader.names().unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
        let stored = names
            .iter()
            .find(|found| found.trim_end_matches(".npy") == name)
            .unwrap_or_else(|| panic!("{}: no array {name:?} among {names:?}", self.path.display()));
        self.reader
            .by_name::<OwnedRepr<T>, ndarray::IxDyn>(stored)
            .unwrap_or_else(|error| panic!("{}: {name}: {error}", self.path.display()))
    }

    /// The values of a float16 array, which the reader above does not know: behind the header of a
    /// `.npy` file (10 bytes, then as many as the last two of these say) they lie as they are.
    pub fn half_values(&mut self, name: &str) -> Vec<f32> {
        let file = std::fs::File::open(&self.path).unwrap();
        let mut archive = zip::ZipArchive::new(file).unwrap();
        let mut entry = archive.by_name(&format!("{name}.npy")).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert!(String::from_utf8_lossy(&bytes[..header]).contains("'<f2'"), "{name} is no float16");
        bytes[header..].chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
    }

    /// A float32 array as a tensor.
    pub fn tensor(&mut self, name: &str) -> Tensor {
        let array = self.array::<f32>(name);
        Tensor::new(array.shape().to_vec(), array.iter().copied().collect())
    }
}

/// Largest difference, relative to the largest reference value.
pub fn relative_difference(found: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(found.len(), reference.len(), "number of values");
    let scale = reference.iter().fold(f32::MIN_POSITIVE, |max, value| max.max(value.abs()));
    let worst = found.iter().zip(reference).fold(0.0_f32, |max, (a, b)| max.max((a - b).abs()));
    assert!(found.iter().all(|value| value.is_finite()), "not all values are finite");
    worst / scale
}

/// Every runtime that graftd was built with. A missing libonnxruntime is a failure, not a skip.
pub fn runtimes() -> Vec<Box<dyn graftd::runtime::Runtime>> {
    use graftd::runtime::{RuntimeChoice, RuntimeKind, open};
    let open = |kind| match open(&RuntimeChoice { kind, library: None }) {
        Ok(runtime) => runtime,
        Err(error) => panic!("{error} (`make lib` fetches it)"),
    };
    [RuntimeKind::Ort, RuntimeKind::Tract].map(open).into()
}

/// The interpreter with the packages of tests/python/requirements.txt.
pub fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let python = std::env::var_os("GRAFTD_TEST_PYTHON").map_or(own, PathBuf::from);
    assert!(python.exists(), "{} is missing (`make venv` makes it)", python.display());
    python
}

/// The program under test. It finds libonnxruntime in the checkout's lib/.
pub fn graftd() -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_graftd"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("RUST_LOG");
    command
}

/// Tests that start processes and open stores take turns: between fork and exec a child holds the locks of the
/// stores that are open, and opening one of them again is refused for that moment.
pub fn turn() -> std::sync::MutexGuard<'static, ()> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
