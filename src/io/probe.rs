//! What this kernel can do, tried before anything is promised; each refusal names its remedy.

use super::uring::build;
use io_uring::{IoUring, Probe, opcode};
use std::fmt;
use std::io;

/// Why no worker can run here, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub what: String,
    pub remedy: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.what, self.remedy)
    }
}

/// Every operation that a ring may submit, and the kernel that brought it.
const NEEDED: &[(u8, &str, &str)] = &[
    (opcode::AcceptMulti::CODE, "accept", "5.19"),
    (opcode::GetSockOpt::CODE, "address of a client", "6.7"),
    (opcode::Recv::CODE, "recv", "5.6"),
    (opcode::Send::CODE, "send", "5.6"),
    (opcode::SendMsg::CODE, "sendmsg", "5.3"),
    (opcode::Shutdown::CODE, "shutdown", "5.11"),
    (opcode::Close::CODE, "close", "5.6"),
    (opcode::OpenAt::CODE, "openat", "5.6"),
    (opcode::Read::CODE, "read", "5.6"),
    (opcode::Write::CODE, "write", "5.6"),
    (opcode::WriteFixed::CODE, "write from registered memory", "5.1"),
    (opcode::Fsync::CODE, "fsync", "5.1"),
    (opcode::Fallocate::CODE, "fallocate", "5.6"),
    (opcode::RenameAt::CODE, "renameat", "5.11"),
    (opcode::UnlinkAt::CODE, "unlinkat", "5.11"),
    (opcode::MkDirAt::CODE, "mkdirat", "5.15"),
    (opcode::MsgRingData::CODE, "messages between rings", "5.18"),
    (opcode::PollAdd::CODE, "poll", "5.1"),
    (opcode::Timeout::CODE, "timeout", "5.4"),
    (opcode::AsyncCancel::CODE, "cancel", "5.5"),
];

/// Tries a ring as the workers use it.
pub fn kernel() -> Result<(), Missing> {
    let ring = build(8, 64).map_err(|error| no_ring(&error, disabled()))?;
    operations(&ring)
}

/// The sysctl that switches io_uring off, where there is one: 1 for most users, 2 for all.
fn disabled() -> u8 {
    let text = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_string()
}

fn no_ring(error: &io::Error, disabled: u8) -> Missing {
    let (what, remedy) = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if disabled > 0 => (
            format!("io_uring is switched off on this machine (kernel.io_uring_disabled = {disabled})"),
            "sysctl -w kernel.io_uring_disabled=0 (1 lets root and members of kernel.io_uring_group use it)".to_string(),
        ),
        Some(libc::EPERM | libc::EACCES) => (
            "io_uring is forbidden to this process, most likely by the seccomp profile of a container runtime".to_string(),
            "allow io_uring_setup, io_uring_enter and io_uring_register: docker run --security-opt seccomp=unconfined, \
             or a profile that names these three calls"
                .to_string(),
        ),
        Some(libc::ENOSYS) => (
            format!("this kernel ({}) has no io_uring, or a sandbox hides it", release()),
            "run on a Linux kernel of 6.12 or newer, not in a sandbox that replaces the kernel (gVisor and its like)".to_string(),
        ),
        Some(libc::EINVAL) => (
            format!("this kernel ({}) does not know SINGLE_ISSUER and DEFER_TASKRUN of io_uring", release()),
            "run on a Linux kernel of 6.12 or newer (these two came with 6.1)".to_string(),
        ),
        Some(libc::ENOMEM) => (
            "a ring does not fit in the memory that this process may lock".to_string(),
            "raise the limit: ulimit -l unlimited, LimitMEMLOCK=infinity (systemd), --ulimit memlock=-1 (docker)".to_string(),
        ),
        Some(libc::EMFILE | libc::ENFILE) => (
            format!("no descriptor is left for a ring: {error}"),
            "raise the limit of open files: ulimit -n, LimitNOFILE (systemd), --ulimit nofile (docker)".to_string(),
        ),
        _ => (format!("a ring cannot be made: {error}"), "see io_uring_setup(2)".to_string()),
    };
    Missing { what, remedy }
}

fn operations(ring: &IoUring) -> Result<(), Missing> {
    let mut known = Probe::new();
    ring.submitter().register_probe(&mut known).map_err(|error| no_ring(&error, disabled()))?;
    let Some((_, name, since)) = NEEDED.iter().find(|(code, ..)| !known.is_supported(*code)) else { return Ok(()) };
    Err(Missing {
        what: format!("io_uring of this kernel ({}) cannot {name}", release()),
        remedy: format!("run on a Linux kernel of 6.12 or newer (this one came with {since})"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_will_do() {
        assert_eq!(kernel(), Ok(()));
    }

    #[test]
    fn each_refusal_names_its_remedy() {
        let remedy = |errno, disabled| no_ring(&io::Error::from_raw_os_error(errno), disabled).to_string();
        assert!(remedy(libc::EPERM, 0).contains("seccomp"));
        assert!(remedy(libc::EPERM, 2).contains("sysctl -w kernel.io_uring_disabled=0"));
        assert!(remedy(libc::EINVAL, 0).contains("6.12"));
        assert!(remedy(libc::ENOSYS, 0).contains("sandbox"));
        assert!(remedy(libc::ENOMEM, 0).contains("memlock"));
        assert!(remedy(libc::EMFILE, 0).contains("LimitNOFILE"));
    }
}
