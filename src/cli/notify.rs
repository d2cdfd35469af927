//! Tells whoever has started this process how it is: systemd's protocol of readiness, which other supervisors speak too.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Clients are served.
pub const READY: &str = "READY=1";
/// A stop has begun.
pub const STOPPING: &str = "STOPPING=1";

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
