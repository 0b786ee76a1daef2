//! The `graftd` command: parses the command line and hands over to [`graftd::cli`].

fn main() -> std::process::ExitCode {
    graftd::cli::main()
}
