//! The `antiphon` program: reads its configuration and runs the server until it is told to stop.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    antiphon_server::main()
}
