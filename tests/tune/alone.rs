//! Scripts in a network of their own, whose values are nobody's.

use std::path::Path;
use std::process::Command;

/// What a script says that has all rights over such a network: `$1` is the program, `$2` the directory. It ends with 77 where it may not do here
/// what it has to. `None`: this was so, or there is no such network, which was told.
pub fn alone(more: &[&str], script: &str, directory: &Path) -> Option<String> {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net"]).args(more).args(["sh", "-c", script, "sh"]);
    let output = match command.arg(env!("CARGO_BIN_EXE_penstock")).arg(directory).output() {
        Ok(output) => output,
        Err(error) => {
            println!("SKIPPED: unshare: {error}");
            return None;
        }
    };
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) || told.contains("unshare failed") {
        println!("SKIPPED: no network of its own: {told}");
        return None;
    }
    assert_eq!(output.status.code(), Some(0), "{told}");
    Some(told)
}
