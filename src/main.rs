//! The `graftd` command: parses the command line and hands over to [`graftd::cli`].

#[allow(unsafe_code, reason = "the environment may be changed while no other thread runs, as here")]
fn main() -> std::process::ExitCode {
    // SAFETY: this is the first statement of the program; no other thread runs.
    unsafe { graftd::runtime::forbid_telemetry() };
    graftd::runtime::give_memory_back();
    graftd::cli::main()
}
