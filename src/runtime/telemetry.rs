//! Nothing phones home.
//!
//! Official builds of ONNX Runtime report their use to their makers: on Linux from 1.32 on, with a
//! device id under the user's cache folder and a queue of reports beside it. The library's own switch
//! comes too late for the first report; its environment variable forbids all of it, when it is set
//! before the library is loaded.

/// Read by ONNX Runtime 1.32, and by the versions before and after that have another name for it.
const VARIABLES: [&str; 2] = ["ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED"];

/// Forbids ONNX Runtime to report its use. The first statement of a program's `main` should be this.
///
/// # Safety
/// No other thread may run: changing the environment while another thread reads it is undefined.
#[allow(unsafe_code, reason = "changing the environment is unsafe by nature")]
pub unsafe fn forbid_telemetry() {
    for variable in VARIABLES {
        // SAFETY: the caller vouches for it that no other thread runs.
        unsafe { std::env::set_var(variable, "1") };
    }
}

/// Whether the environment forbids it.
#[cfg(feature = "ort")]
pub(super) fn is_forbidden() -> bool {
    VARIABLES.iter().all(|variable| std::env::var_os(variable).is_some_and(|value| value == "1"))
}
