//! What the process asks of the kernel for itself: limits, signals, priority, random bytes, facts.

use super::clock::Wall;
use crate::stdx::calendar::Civil;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd};

/// Raises the soft limits of locked memory and open files to the hard ones; gives the limit of locked memory, in bytes.
pub fn raise_limits() -> u64 {
    raise(libc::RLIMIT_NOFILE);
    raise(libc::RLIMIT_MEMLOCK)
}

fn raise(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid structure that the call fills.
    if unsafe { libc::getrlimit(resource, &mut limit) } != 0 {
        return 0;
    }
    let wanted = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: `wanted` is a valid structure that the call reads.
    let raised = unsafe { libc::setrlimit(resource, &wanted) } == 0;
    if raised { wanted.rlim_cur } else { limit.rlim_cur }
}

pub fn is_root() -> bool {
    // SAFETY: no memory is involved; it cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Bytes that nobody can guess.
pub fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0u8; 32];
    // SAFETY: the buffer has the length that is told.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    match got {
        32 => Ok(bytes),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What the kernel holds of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// Someone (NTP, PTP) disciplines it.
    pub synchronised: bool,
    /// How far it may be from the right time, microseconds; it grows while nobody corrects it.
    pub most_error_us: u64,
}

/// Asks the kernel how right the wall clock is; refused where a filter keeps the call from this process.
pub fn clock_state() -> io::Result<ClockState> {
    // SAFETY: a structure of numbers, for which zeros are valid; zero modes only ask.
    let mut asked: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is valid and filled by the call.
    let state = unsafe { libc::adjtimex(&mut asked) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ClockState { synchronised: state != libc::TIME_ERROR, most_error_us: asked.maxerror.max(0) as u64 })
}

/// Whether the kernel calls the wall clock synchronised.
pub fn clock_is_synchronised() -> bool {
    clock_state().is_ok_and(|state| state.synchronised)
}

/// Makes this thread give way to others: for work that nobody waits for.
pub fn lower_priority() {
    const NICE: i32 = 10;
    // SAFETY: no memory is involved. 0 is the calling thread. A refusal costs nothing but the courtesy.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// Has this thread's sleeps end when they should: by default the kernel gathers wake-ups of 50 µs.
pub fn exact_timers() {
    // SAFETY: no memory is involved. A refusal costs nothing but the exactness.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// Signals kept from every thread that is started after they were blocked, and waited for by one.
pub struct Signals(libc::sigset_t);

impl Signals {
    /// Those that end the process.
    pub fn block() -> io::Result<Signals> {
        Signals::of(&[libc::SIGTERM, libc::SIGINT])
    }

    /// The one that asks a server to read its files again.
    pub fn block_hangup() -> io::Result<Signals> {
        Signals::of(&[libc::SIGHUP])
    }

    fn of(signals: &[i32]) -> io::Result<Signals> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: `sigemptyset` initialises the set that the next calls use; all are given valid pointers.
        let (failed, set) = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                libc::sigaddset(set.as_mut_ptr(), *signal);
            }
            (libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()), set.assume_init())
        };
        if failed == 0 { Ok(Signals(set)) } else { Err(io::Error::from_raw_os_error(failed)) }
    }

    /// Waits for one of them: without an end, as it is the operator who ends it.
    pub fn wait(&self) {
        let mut signal = 0;
        // SAFETY: both pointers are valid; it fails only for a set that is not one.
        while unsafe { libc::sigwait(&self.0, &mut signal) } != 0 {}
    }

    /// Forgets those that have come.
    pub fn clear(&self) {
        while self.wait_for(0) {}
    }

    /// Waits for another one; false when `seconds` are over.
    pub fn wait_for(&self, seconds: u32) -> bool {
        let limit = libc::timespec { tv_sec: seconds as i64, tv_nsec: 0 };
        // SAFETY: the set and the time are valid, and no information is asked for.
        unsafe { libc::sigtimedwait(&self.0, std::ptr::null_mut(), &limit) > 0 }
    }
}

/// Bytes that a program without privileges may still write to the file system of `fd`.
pub fn free_bytes(fd: &impl AsRawFd) -> io::Result<u64> {
    let mut stat = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the structure is filled by the call when it succeeds.
    if unsafe { libc::fstatvfs(fd.as_raw_fd(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded.
    let stat = unsafe { stat.assume_init() };
    Ok(stat.f_bavail * stat.f_frsize)
}

/// Magic number of the file system of `fd`.
pub fn file_system(fd: &impl AsRawFd) -> io::Result<u32> {
    let mut stat = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the structure is filled by the call when it succeeds.
    if unsafe { libc::fstatfs(fd.as_raw_fd(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded.
    Ok(unsafe { stat.assume_init() }.f_type as u32)
}

/// Makes `to`, an empty file, share all extents of `from` until one of them is written to (`FICLONE`); refused by file systems that cannot.
pub fn reflink(from: &File, to: &File) -> io::Result<()> {
    // SAFETY: no memory is involved: the argument is a descriptor.
    match unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Bytes of what an NVMe controller says of its health.
pub const HEALTH_BYTES: usize = 512;

/// The log page of health of an NVMe controller, `/dev/nvme0` (NVM Express Base Specification, log page 02h), of all its namespaces together. The kernel
/// lets it be asked with `CAP_SYS_ADMIN` only. It waits as long as it does for its own commands: one that is late has the controller reset, so a shorter
/// time would end other people's I/O.
pub fn nvme_health(controller: &File) -> io::Result<[u8; HEALTH_BYTES]> {
    /// `struct nvme_admin_cmd` of `linux/nvme_ioctl.h`.
    #[repr(C)]
    #[derive(Default)]
    struct Command {
        opcode: u8,
        flags: u8,
        reserved: u16,
        namespace: u32,
        words_2_3: [u32; 2],
        metadata: u64,
        at: u64,
        metadata_len: u32,
        len: u32,
        words_10_15: [u32; 6],
        timeout_ms: u32,
        result: u32,
    }
    const _: () = assert!(size_of::<Command>() == 72);
    /// `NVME_IOCTL_ADMIN_CMD`: `_IOWR('N', 0x41, struct nvme_admin_cmd)`.
    const ADMIN_COMMAND: libc::Ioctl = 0xC048_4E41_u32 as libc::Ioctl;
    const GET_LOG_PAGE: u8 = 0x02;
    const HEALTH: u32 = 0x02;
    // So many words of four bytes, less one, stand above the number of the page.
    let page = HEALTH | (HEALTH_BYTES as u32 / 4 - 1) << 16;
    let mut said = [0; HEALTH_BYTES];
    let mut command = Command {
        opcode: GET_LOG_PAGE,
        namespace: u32::MAX,
        at: said.as_mut_ptr() as u64,
        len: HEALTH_BYTES as u32,
        words_10_15: [page, 0, 0, 0, 0, 0],
        ..Command::default()
    };
    // SAFETY: the command is as long as its number says, and the device fills as many bytes of `said` as the command asks for; both are there until
    // the call is over.
    match unsafe { libc::ioctl(controller.as_raw_fd(), ADMIN_COMMAND, &raw mut command) } {
        0 => Ok(said),
        status if status > 0 => Err(io::Error::other(format!("the drive refuses it with status {status:#x}"))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Alignment of direct I/O on `fd`, bytes, where the file system tells it.
pub fn direct_alignment(fd: &impl AsRawFd) -> Option<u32> {
    // SAFETY: a structure of numbers, for which zeros are valid.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let (empty, flags, wanted) = (c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN);
    // SAFETY: an empty path names the descriptor itself; the structure is filled by the call.
    let failed = unsafe { libc::statx(fd.as_raw_fd(), empty, flags, wanted, &mut stat) } != 0;
    let told = !failed && stat.stx_mask & libc::STATX_DIOALIGN != 0;
    told.then(|| stat.stx_dio_mem_align.max(stat.stx_dio_offset_align))
}

/// A counter that a ring can wait for.
pub fn eventfd() -> io::Result<File> {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// `2026-11-24T09:15:02.123Z`.
pub fn timestamp(wall: Wall) -> String {
    let Civil { year, month, day, hour, minute, second, .. } = Civil::from_seconds(wall.seconds());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", wall.millis() % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_sorts_as_text() {
        assert_eq!(timestamp(Wall(951_782_400_007_000)), "2000-02-29T00:00:00.007Z");
    }

    #[test]
    fn random_bytes_differ() {
        assert_ne!(random().expect("random"), random().expect("random"));
    }
}
