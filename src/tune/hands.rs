//! What a change does to a host, one step each: whoever wants to know what happens when a step fails, or is the last one, takes the place of
//! [`Disk`].

use super::drivers::Place;
use super::root::{FILE_BYTES_MAX, Root};
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Absent,
    File {
        text: String,
        mode: u32,
        /// A value that the kernel shows as a file: it has no length, and is written where it is.
        attribute: bool,
    },
    Link(String),
    Directory,
    /// A device, a pipe, a socket.
    Other,
}

/// Steps on the files of a host. Paths begin with `/` and lead below the host's root. A step that has been done is durable.
pub trait Hands {
    /// What is there. The last part of the path is not followed where it is a link.
    fn entry(&mut self, path: &str) -> io::Result<Entry>;
    /// Gives the kernel a value, in one call.
    fn set(&mut self, path: &str, text: &str) -> io::Result<()>;
    /// A new file, or another text in one that is there.
    fn write(&mut self, path: &str, text: &str, mode: u32) -> io::Result<()>;
    /// Puts a file, or a directory, in the place of another name.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&mut self, path: &str) -> io::Result<()>;
    fn make_directory(&mut self, path: &str, mode: u32) -> io::Result<()>;
    fn remove_directory(&mut self, path: &str) -> io::Result<()>;
    fn link(&mut self, path: &str, target: &str) -> io::Result<()>;
    /// More text at the end of a file.
    fn append(&mut self, path: &str, text: &str) -> io::Result<()>;
    /// Leaves the first bytes of a file.
    fn cut(&mut self, path: &str, length: u64) -> io::Result<()>;
    /// Keeps everybody else from the file who tries the same, until this ends.
    fn lock(&mut self, path: &str) -> io::Result<()>;
}

/// The host's own files, or those of a tree.
pub struct Disk {
    root: Root,
    /// The device that the root lies on: values of the kernel lie on others.
    device: u64,
    locked: Option<File>,
}

impl Disk {
    pub fn new(root: Root) -> io::Result<Disk> {
        let device = root.prefix().metadata()?.dev();
        Ok(Disk { root, device, locked: None })
    }

    /// Where `path` really is: its directory without links, which must be below the root, and the name in it.
    fn place(&self, path: &str) -> io::Result<PathBuf> {
        let (parent, name) = path
            .rsplit_once('/')
            .filter(|(_, name)| !name.is_empty() && *name != "..")
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{path} has no name")))?;
        let full = self.root.prefix().join(parent.trim_start_matches('/')).canonicalize()?;
        match full.starts_with(self.root.prefix()) {
            true => Ok(full.join(name)),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path} leads out of the tree"))),
        }
    }

    fn sync_parent(&self, real: &std::path::Path) -> io::Result<()> {
        File::open(real.parent().expect("a place has a parent"))?.sync_all()
    }
}

impl Hands for Disk {
    fn entry(&mut self, path: &str) -> io::Result<Entry> {
        if path == "/" {
            return Ok(Entry::Directory);
        }
        if let (Some(Place { nic, group, name }), Some(drivers)) = (Place::of(path), self.root.drivers()) {
            return Ok(match drivers.group(nic, group) {
                Ok(said) => said.get(name).map_or(Entry::Absent, |value| value_of_driver(value)),
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Entry::Absent,
                Err(error) => return Err(error),
            });
        }
        let absent = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        let real = match self.place(path) {
            Err(error) if absent(&error) => return Ok(Entry::Absent),
            other => other?,
        };
        let found = match real.symlink_metadata() {
            Err(error) if absent(&error) => return Ok(Entry::Absent),
            other => other?,
        };
        if found.is_symlink() {
            return Ok(Entry::Link(text_of(path, real.read_link()?.into_os_string().into_encoded_bytes())?));
        } else if found.is_dir() {
            return Ok(Entry::Directory);
        } else if !found.is_file() {
            return Ok(Entry::Other);
        }
        let mut bytes = Vec::new();
        File::open(&real)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{path} is too long")));
        }
        let kernel = path.starts_with("/sys/") || path.starts_with("/proc/");
        let attribute = kernel && found.dev() != self.device;
        Ok(Entry::File { text: text_of(path, bytes)?, mode: found.mode() & 0o7777, attribute })
    }

    fn set(&mut self, path: &str, text: &str) -> io::Result<()> {
        if let (Some(Place { nic, group, name }), Some(drivers)) = (Place::of(path), self.root.drivers()) {
            return (drivers.set)(nic, group, name, text.trim());
        }
        let mut file = OpenOptions::new().write(true).open(self.place(path)?)?;
        // The kernel takes each call as a whole value, so a second one for a rest would be another value.
        match file.write(text.as_bytes())? {
            written if written == text.len() => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::WriteZero, "the kernel has taken a part of the value only")),
        }
    }

    fn write(&mut self, path: &str, text: &str, mode: u32) -> io::Result<()> {
        let real = self.place(path)?;
        let mut options = OpenOptions::new();
        // Whoever has put a link there would choose what is written to.
        options.write(true).create(true).truncate(true).mode(mode).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(real)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let to = self.place(to)?;
        std::fs::rename(self.place(from)?, &to)?;
        self.sync_parent(&to)
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        let real = self.place(path)?;
        std::fs::remove_file(&real)?;
        self.sync_parent(&real)
    }

    fn make_directory(&mut self, path: &str, mode: u32) -> io::Result<()> {
        let real = self.place(path)?;
        std::fs::create_dir(&real)?;
        std::fs::set_permissions(&real, Permissions::from_mode(mode))?;
        self.sync_parent(&real)
    }

    fn remove_directory(&mut self, path: &str) -> io::Result<()> {
        let real = self.place(path)?;
        std::fs::remove_dir(&real)?;
        self.sync_parent(&real)
    }

    fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        let real = self.place(path)?;
        std::os::unix::fs::symlink(target, &real)?;
        self.sync_parent(&real)
    }

    fn append(&mut self, path: &str, text: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(self.place(path)?)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }

    fn cut(&mut self, path: &str, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.place(path)?)?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn lock(&mut self, path: &str) -> io::Result<()> {
        let file = File::open(self.place(path)?)?;
        let ours = std::fs::metadata("/proc/self")?.uid();
        let found = file.metadata()?;
        if let Some(held) = &self.locked
            && held.metadata().is_ok_and(|held| (held.dev(), held.ino()) == (found.dev(), found.ino()))
        {
            return Ok(());
        }
        if found.uid() != ours || found.mode() & 0o022 != 0 {
            let why =
                "it belongs to, or may be written by, another user, who would choose what is written to this host";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        match file.try_lock() {
            Ok(()) => self.locked = Some(file),
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, "another apply, revert or prove is at work"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(())
    }
}

/// As if it were a file of the kernel.
fn value_of_driver(value: &str) -> Entry {
    Entry::File { text: format!("{value}\n"), mode: 0o644, attribute: true }
}

fn text_of(path: &str, bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{path} holds no text")))
}
