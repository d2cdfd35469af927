//! The simulator: real workers, mailboxes and catalog on one thread, over a simulated disk, network and clock, from a seed.

mod clock;
mod disk;
mod disk_tests;
mod inode;
mod net;
mod oracle;
mod random;
mod trace;
mod wire;
