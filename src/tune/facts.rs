//! What a host tells only to whoever asks it by a system call, as files: `/space/DATA/NAME` for the data directory `DATA`, `/clock/NAME`, and
//! `/health/nvme0/NAME` for an NVMe controller. On a host these files are not there: [`Facts`] answers for them. In a recorded tree they are; what is missing there was not asked.

use super::drivers::Said;
use std::io;

/// Where these files seem to be.
pub const SPACE: &str = "/space";
pub const CLOCK: &str = "/clock";
pub const HEALTH: &str = "/health";

/// Bytes that may still be written to the file system of a data directory.
pub const FREE_BYTES: &str = "free_bytes";
/// Bytes that should be: two segments for each log that still grows; for a directory without logs what the least log takes.
pub const WANTED_BYTES: &str = "wanted_bytes";
/// What the catalog keeps for itself, so that space can be given back when there is none; `there`, or what is missing. Not said of a new directory.
pub const SPARES: &str = "spares";
pub const OF_SPACE: [&str; 3] = [FREE_BYTES, WANTED_BYTES, SPARES];

/// Whether the kernel calls the clock synchronised: `yes` or `no`.
pub const SYNCHRONISED: &str = "synchronised";
/// How far the clock may be from the right time, as the kernel sums it up, microseconds.
pub const MOST_ERROR_US: &str = "most_error_us";
pub const OF_CLOCK: [&str; 2] = [SYNCHRONISED, MOST_ERROR_US];

/// What an NVMe controller warns of, bits: no spare, too hot or cold, unreliable, read-only, no backup of its cache.
pub const WARNINGS: &str = "warnings";
/// What is left of its spare cells, and below how much it warns, of a hundred; how much of its life is used, which may be more.
pub const SPARE: &str = "spare";
pub const SPARE_LEAST: &str = "spare_least";
pub const USED: &str = "used";
/// How often it could not give back what it had stored.
pub const MEDIA_ERRORS: &str = "media_errors";
pub const OF_HEALTH: [&str; 5] = [WARNINGS, SPARE, SPARE_LEAST, USED, MEDIA_ERRORS];

/// Who asks a host.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// What there is under a data directory, which need not be there yet.
    pub space: fn(&str) -> io::Result<Said>,
    pub clock: fn() -> io::Result<Said>,
    /// What a controller, `nvme0`, says of itself.
    pub health: fn(&str) -> io::Result<Said>,
}
