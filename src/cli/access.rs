//! The operator's credentials file: read at start, and again when it has changed; and which addresses may be served with and without it.

use crate::auth::credentials::{Access, FILE_BYTES_MAX};
use crate::io::peers::Peers;
use crate::io::process::Signals;
use std::fs::{File, Metadata};
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often the file is looked at: an editor sends no signal.
const LOOK_SECONDS: u32 = 2;

#[derive(clap::Args, Debug)]
pub struct AccessArgs {
    /// Users, their access keys and policies, as JSON (see README); read again when it changes, and on SIGHUP. With it every request must be
    /// signed; without it nobody is asked, and only loopback addresses are served
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// Serve clients without TLS, where there is TLS too, and at an address outside loopback: secrets are never sent, but records and answers
    /// can be read on the way
    #[arg(long)]
    pub(super) plaintext: bool,
}

/// The file as it was read last.
pub struct Credentials {
    path: PathBuf,
    seen: Option<Fingerprint>,
    pub access: Arc<Access>,
}

/// What changes when a file does, or another one takes its place.
type Fingerprint = (u64, u64, u64, i64, i64);

fn fingerprint(of: &Metadata) -> Fingerprint {
    (of.dev(), of.ino(), of.len(), of.ctime(), of.ctime_nsec())
}

impl AccessArgs {
    /// Reads the file, if one is named, and judges the addresses: each with its flag, and whether there is TLS.
    pub fn open(&self, addresses: &[(&str, SocketAddr, bool)]) -> Result<Option<Credentials>, String> {
        for (flag, address, tls) in addresses {
            check_address(flag, *address, self.credentials.is_some(), *tls, self.plaintext)?;
        }
        let Some(path) = &self.credentials else { return Ok(None) };
        let (access, seen) = read(path).map_err(|why| format!("--credentials {}: {why}", path.display()))?;
        Ok(Some(Credentials { path: path.clone(), seen: Some(seen), access: Arc::new(access) }))
    }
}

/// Whether this address may be served.
fn check_address(flag: &str, listen: SocketAddr, credentials: bool, tls: bool, plaintext: bool) -> Result<(), String> {
    match (listen.ip().is_loopback(), credentials) {
        (true, _) => Ok(()),
        (false, false) => Err(format!(
            "{flag} {listen}: only loopback addresses are served without --credentials, as nobody is asked for a signature then"
        )),
        (false, true) if tls || plaintext => Ok(()),
        (false, true) => Err(format!(
            "{flag} {listen}: without TLS whoever is on the way can read the records; say --plaintext if that is meant"
        )),
    }
}

fn read(path: &Path) -> Result<(Access, Fingerprint), String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let mut file = File::open(path).map_err(cannot)?;
    let of = file.metadata().map_err(cannot)?;
    if !of.is_file() {
        return Err("is not a file".to_owned());
    }
    if of.mode() & 0o077 != 0 {
        return Err(format!(
            "can be read by others (mode {:03o}): chmod 600 it, as it holds secrets",
            of.mode() & 0o777
        ));
    }
    let mut text = String::new();
    let most = FILE_BYTES_MAX as u64;
    file.by_ref().take(most + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > most {
        return Err(format!("is longer than {most} bytes"));
    }
    Ok((Access::parse(&text)?, fingerprint(&of)))
}

impl Credentials {
    /// One line for the banner.
    pub fn shown(&self) -> String {
        let (users, keys) = (self.access.users().len(), self.access.keys());
        format!("signatures are verified: {users} users, {keys} keys in {}", self.path.display())
    }

    /// Looks after the file for as long as the process lives.
    pub fn watch(mut self, hangup: &Signals, peers: &Peers, say: impl Fn(&str)) {
        loop {
            let asked = hangup.wait_for(LOOK_SECONDS);
            // A file that is gone is told once, and again when it has been there meanwhile.
            let now = std::fs::metadata(&self.path).ok().map(|of| fingerprint(&of));
            if !asked && now == self.seen {
                continue;
            }
            self.seen = now;
            match read(&self.path) {
                Ok((access, seen)) => {
                    self.access = Arc::new(access);
                    self.seen = Some(seen);
                    peers.set_access(self.access.clone());
                    say(&format!("credentials: {}", self.shown()));
                }
                Err(why) => say(&format!("credentials: {} {why}; those of before stay in force", self.path.display())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_outside_loopback_needs_credentials_and_tls_or_a_word() {
        let check = |listen: &str, credentials, tls, plaintext| {
            check_address("--listen", listen.parse().expect("an address"), credentials, tls, plaintext)
        };
        assert_eq!(check("127.0.0.1:1", false, false, false), Ok(()));
        assert_eq!(check("[::1]:1", true, false, false), Ok(()));
        assert!(check("0.0.0.0:1", false, true, true).expect_err("refused").contains("--credentials"));
        assert!(check("10.0.0.1:1", true, false, false).expect_err("refused").contains("--plaintext"));
        assert_eq!(check("0.0.0.0:1", true, true, false), Ok(()));
        assert_eq!(check("[::]:1", true, false, true), Ok(()));
    }
}
