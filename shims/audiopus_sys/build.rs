//! Says what is missing before the build of libopus fails for want of it.

use std::env;
use std::process::{Command, Stdio};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CMAKE");
    println!("cargo:rerun-if-env-changed=PATH");
    let cmake = env::var_os("CMAKE").unwrap_or_else(|| "cmake".into());
    let mut version = Command::new(&cmake);
    version.arg("--version").stdout(Stdio::null());
    if !version.status().is_ok_and(|status| status.success()) {
        eprintln!(
            "Opus is built with cmake, and `{} --version` does not run: install the package cmake (Debian: \
             apt-get install cmake), or build antiphon-core without its feature `opus`.",
            cmake.display()
        );
        std::process::exit(1);
    }
}
