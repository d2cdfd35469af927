//! What of zero copies and of ways around the kernel's network works here, found by trying: each trial takes what it needs, sees what the
//! kernel says, and gives everything back. None takes a packet away from whoever it is for.

use super::netlink::{Family, attribute, find};
use io_uring::types::{
    Fd, IORING_MEM_REGION_TYPE_USER, io_uring_region_desc, io_uring_zcrx_area_reg, io_uring_zcrx_ifq_reg,
};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

const PAGE: usize = 4096;
/// Of the memory that packets would be received into, and of the ring that gives it back.
const AREA_PAGES: usize = 64;
const RETURNED: u32 = 64;
/// Room for a head of three numbers and the entries, 16 bytes each.
const RETURN_BYTES: usize = 2 * PAGE;
/// Frames of an AF_XDP socket's memory, and entries of its rings.
const FRAMES: usize = 64;
const FRAME_BYTES: u32 = 4096;
/// What is sent without a copy, if it can be: below some KiB a copy is cheaper, so the kernel is asked for more.
const SENT_BYTES: usize = 64 << 10;
/// `IORING_SEND_ZC_REPORT_USAGE`, and what the notification then says.
const REPORT_USAGE: u16 = 1 << 3;
const COPIED: u32 = 1 << 31;
/// Of the family `netdev`: what a driver can do with XDP.
const DEVICE_GET: u8 = 1;
const DEVICE_INDEX: u16 = 1;
const DEVICE_XDP: u16 = 3;
const XDP_ZERO_COPY: u64 = 1 << 3;

/// Memory of its own, which goes when it is dropped.
struct Mapped {
    at: NonNull<u8>,
    bytes: usize,
}

impl Mapped {
    /// `flags`: what the kernel is to do beside mapping private, nameless memory.
    fn new(bytes: usize, flags: i32) -> io::Result<Mapped> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags);
        // SAFETY: a new mapping of our own, at a place that the kernel chooses.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        match NonNull::new(at.cast()) {
            Some(pointer) if at != libc::MAP_FAILED => Ok(Mapped { at: pointer, bytes }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn address(&self) -> u64 {
        self.at.as_ptr() as u64
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length, and nobody else knows it.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.bytes) };
    }
}

/// Whether one page of so many bytes can be had of the pool of large pages. It is touched and given back.
pub fn large_page(bytes: usize) -> io::Result<()> {
    let size = (bytes.trailing_zeros() as i32) << libc::MAP_HUGE_SHIFT;
    let page = Mapped::new(bytes, libc::MAP_HUGETLB | size)?;
    // SAFETY: the mapping is ours, and as long; the kernel has reserved the page, so that touching it cannot fail.
    unsafe { page.at.as_ptr().write_volatile(1) };
    Ok(())
}

/// Whether a ring can have so many bytes of memory registered with it, which are locked for as long.
pub fn registered(bytes: usize) -> io::Result<()> {
    let memory = Mapped::new(bytes, 0)?;
    let ring = IoUring::new(8)?;
    let buffer = libc::iovec { iov_base: memory.at.as_ptr().cast(), iov_len: bytes };
    // SAFETY: the memory lives until it has been taken back, right below.
    unsafe { ring.submitter().register_buffers(&[buffer]) }?;
    ring.submitter().unregister_buffers()
}

/// Sends to a socket of this host without a copy; gives whether the kernel has copied all the same, as it says.
pub fn zero_copy_send() -> io::Result<bool> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let ours = TcpStream::connect(listener.local_addr()?)?;
    // Nobody reads it: so much fits into what a socket holds, and a part of it is enough.
    let _theirs = listener.accept()?.0;
    let bytes = vec![7u8; SENT_BYTES];
    let mut ring = IoUring::new(8)?;
    let entry = opcode::SendZc::new(Fd(ours.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32);
    let entry = entry.zc_flags(REPORT_USAGE).flags(libc::MSG_DONTWAIT).build();
    // SAFETY: the bytes live until the notification has come, which is waited for below, or the ring is gone.
    unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
    let mut copied = None;
    let mut expected = 1;
    while expected > 0 {
        match ring.submit_and_wait(1) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for seen in ring.completion() {
            expected -= 1;
            expected += i32::from(cqueue::more(seen.flags()));
            match seen.result() {
                usage if cqueue::notif(seen.flags()) => copied = Some(usage.cast_unsigned() & COPIED != 0),
                errno if errno < 0 => return Err(io::Error::from_raw_os_error(-errno)),
                _ => {}
            }
        }
    }
    copied.ok_or_else(|| io::Error::other("no notification said what became of the bytes"))
}

/// Asks for receive queue `queue` of the interface with this index, to receive from it without a copy. `ERANGE`: there is no such queue, and
/// nothing else is in the way; so a queue beyond the last is how to ask without taking one.
pub fn zero_copy_receive(interface: u32, queue: u32) -> io::Result<()> {
    let mut builder = IoUring::<squeue::Entry, cqueue::Entry32>::builder();
    let ring = builder.setup_single_issuer().setup_defer_taskrun().build(8)?;
    let (area, returned) = (Mapped::new(AREA_PAGES * PAGE, 0)?, Mapped::new(RETURN_BYTES, libc::MAP_POPULATE)?);
    let area_told =
        io_uring_zcrx_area_reg { addr: area.address(), len: area.bytes as u64, ..io_uring_zcrx_area_reg::default() };
    let region = io_uring_region_desc {
        user_addr: returned.address(),
        size: returned.bytes as u64,
        flags: IORING_MEM_REGION_TYPE_USER,
        ..io_uring_region_desc::default()
    };
    let asked = io_uring_zcrx_ifq_reg {
        if_idx: interface,
        if_rxq: queue,
        rq_entries: RETURNED,
        area_ptr: &raw const area_told as u64,
        region_ptr: &raw const region as u64,
        ..io_uring_zcrx_ifq_reg::default()
    };
    let done = ring.submitter().register_ifq(&asked);
    // The queue goes back with the ring, and the memory after it.
    drop(ring);
    done
}

/// An AF_XDP socket with its memory and rings, bound to receive queue `queue` of the interface in the mode that copies. No program is put
/// at the interface, so no packet comes to the socket.
pub fn xdp(interface: u32, queue: u32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let memory = Mapped::new(FRAMES * FRAME_BYTES as usize, 0)?;
    // SAFETY: a structure of numbers, for which zeros are valid.
    let mut told: libc::xdp_umem_reg = unsafe { std::mem::zeroed() };
    (told.addr, told.len, told.chunk_size) = (memory.address(), memory.bytes as u64, FRAME_BYTES);
    option(&socket, libc::XDP_UMEM_REG, &told)?;
    for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_RX_RING] {
        option(&socket, ring, &(FRAMES as i32))?;
    }
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: libc::XDP_COPY,
        sxdp_ifindex: interface,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is valid, and as long as is said.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if bound == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn option<T>(socket: &OwnedFd, name: i32, value: &T) -> io::Result<()> {
    let (at, length) = (std::ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t);
    // SAFETY: the value is valid, and as long as is said.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_XDP, name, at, length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the driver says that AF_XDP sockets need no copy. To try it would restart the queue.
pub fn xdp_without_copies(interface: u32) -> io::Result<bool> {
    let mut question = Vec::new();
    attribute(&mut question, DEVICE_INDEX, &interface.to_ne_bytes());
    let answer = Family::open("netdev")?.ask(DEVICE_GET, &question)?;
    let bits = find(&answer, DEVICE_XDP).and_then(|bits| bits.try_into().ok()).map(u64::from_ne_bytes);
    bits.map(|bits| bits & XDP_ZERO_COPY != 0).ok_or_else(|| io::Error::other("the kernel does not say it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_without_a_copy_within_one_host_is_copied() {
        assert!(zero_copy_send().expect("this kernel has it"), "what a socket of this host receives is always copied");
    }

    #[test]
    fn a_little_memory_can_be_registered_and_a_mad_amount_not() {
        registered(1 << 20).expect("1 MiB");
        assert!(registered(1 << 46).is_err());
    }

    #[test]
    fn an_interface_that_is_not_there_is_told_by_the_kernel() {
        let nowhere = i32::MAX as u32;
        let errno = |tried: io::Result<()>| tried.expect_err("there is no such interface").raw_os_error();
        let receive = errno(zero_copy_receive(nowhere, 0));
        let known = [libc::ENODEV, libc::EPERM, libc::EOPNOTSUPP, libc::EINVAL];
        assert!(known.map(Some).contains(&receive), "{receive:?}");
        let bound = errno(xdp(nowhere, 0));
        assert!([libc::ENODEV, libc::EPERM, libc::EAFNOSUPPORT].map(Some).contains(&bound), "{bound:?}");
        assert!(xdp_without_copies(nowhere).is_err());
    }
}
