//! penstock: see `penstock --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(feature) = penstock::io::cpu::missing_feature() {
        eprintln!("penstock needs an x86-64-v3 CPU (any server since 2015); this one lacks {feature}");
        return ExitCode::FAILURE;
    }
    penstock::cli::run()
}
