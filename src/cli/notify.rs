//! Tells whoever has started this process how it is: systemd's protocol of readiness, which other supervisors speak too.

use crate::background::watchdog::Turning;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Clients are served.
pub const READY: &str = "READY=1";
/// A stop has begun.
pub const STOPPING: &str = "STOPPING=1";

/// All workers take turns.
const ALIVE: &str = "WATCHDOG=1";
/// Between looks at the workers: one with nothing to do takes a turn a second.
const LOOK_MIN: Duration = Duration::from_millis(50);
const LOOK_MAX: Duration = Duration::from_secs(1);

/// How long the supervisor waits for a sign of life before it acts; `None`: it does not wait for this process.
pub fn watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let ours = number("WATCHDOG_PID").is_none_or(|process| process == u64::from(std::process::id()));
    let us = number("WATCHDOG_USEC").filter(|us| *us > 0 && ours)?;
    Some(Duration::from_micros(us))
}

/// Tells the supervisor that this process is alive for as long as all workers take turns, and often enough for one that waits for `patience`.
pub fn feed(patience: Duration, mut turning: Turning, failed: &dyn Fn(&io::Error)) -> ! {
    let look = (patience / 8).clamp(LOOK_MIN, LOOK_MAX);
    let mut told = false;
    loop {
        std::thread::sleep(look);
        if !turning.all() {
            continue;
        }
        match tell(ALIVE) {
            Ok(()) => told = false,
            // Once is enough, until it is heard again.
            Err(error) if !told => {
                failed(&error);
                told = true;
            }
            Err(_) => {}
        }
    }
}

/// Sends `state` to `$NOTIFY_SOCKET`, if there is one. That nobody hears it harms no client, so it is told to the caller and no more.
pub fn tell(state: &str) -> io::Result<()> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let name = name.into_encoded_bytes();
    let address = match name.split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(std::str::from_utf8(&name).map_err(io::Error::other)?)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A supervisor that does not read holds up nobody.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}
