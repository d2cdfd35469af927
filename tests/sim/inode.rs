//! One file of the simulated disk: what a power cut must leave, and what it may.
//!
//! `live` is what reads see. `durable` is what is certain: its length is the size that is certain, its bytes those of completed durable
//! writes and of flushed ones. Between them stand the completed writes that nothing has made durable: at a power cut each may be there,
//! missing, or there in part, in units of [`SECTOR`] bytes.

use super::random::Random;

/// What a device writes without tearing.
pub const SECTOR: usize = 512;

#[derive(Debug, Default)]
pub struct Inode {
    pub live: Vec<u8>,
    pub durable: Vec<u8>,
    unsynced: Vec<Unsynced>,
    /// Sectors changed behind the node's back, so that the harm can be healed.
    harmed: Vec<Harm>,
}

#[derive(Debug)]
struct Harm {
    at: usize,
    /// What the sector held, and what it holds now.
    sound: Vec<u8>,
    harmed: Vec<u8>,
}

/// A completed write that is not durable.
#[derive(Debug)]
struct Unsynced {
    at: usize,
    bytes: Vec<u8>,
    /// Which of its sectors no durable write has replaced.
    current: Vec<bool>,
    /// Number of the disk's events at which it completed.
    completed: u64,
    /// A flush that should have covered it has failed: no later flush will.
    given_up: bool,
}

/// What becomes, at a power cut, of the writes that are not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    AllLost,
    AllKept,
    /// Each write whole or not at all.
    Whole,
    /// Of each write all sectors to a point, or from a point on.
    Torn,
    /// Each sector on its own.
    Scattered,
}

pub const MOODS: [Mood; 5] = [Mood::AllLost, Mood::AllKept, Mood::Whole, Mood::Torn, Mood::Scattered];

impl Mood {
    /// Which of `sectors` sectors of a write are there afterwards.
    pub fn kept(self, sectors: usize, random: &mut Random) -> Vec<bool> {
        match self {
            Mood::AllLost => vec![false; sectors],
            Mood::AllKept => vec![true; sectors],
            Mood::Whole => vec![random.chance(500); sectors],
            Mood::Torn => {
                let (point, head) = (random.index(sectors + 1), random.chance(700));
                (0..sectors).map(|sector| (sector < point) == head).collect()
            }
            Mood::Scattered => (0..sectors).map(|_| random.chance(500)).collect(),
        }
    }
}

impl Inode {
    /// A file of `size` allocated bytes, nothing of it durable yet.
    pub fn allocated(size: u64) -> Inode {
        Inode { live: vec![0; size as usize], ..Inode::default() }
    }

    /// A completed write without a promise.
    pub fn write(&mut self, at: u64, bytes: Vec<u8>, completed: u64) {
        let at = at as usize;
        put(&mut self.live, at, &bytes);
        let current = vec![true; bytes.len().div_ceil(SECTOR)];
        self.unsynced.push(Unsynced { at, bytes, current, completed, given_up: false });
    }

    /// A completed durable write: it, and nothing else, is certain from now on.
    pub fn write_durable(&mut self, at: u64, bytes: &[u8]) {
        let at = at as usize;
        put(&mut self.live, at, bytes);
        put(&mut self.durable, at, bytes);
        self.replaced(at, bytes.len(), u64::MAX);
    }

    /// A durable write has replaced what writes completed before event `before` put into these bytes.
    fn replaced(&mut self, at: usize, len: usize, before: u64) {
        for earlier in self.unsynced.iter_mut().filter(|write| write.completed < before) {
            for (sector, current) in earlier.current.iter_mut().enumerate() {
                let place = earlier.at + sector * SECTOR;
                *current &= place + SECTOR <= at || place >= at + len;
            }
        }
        self.unsynced.retain(|write| write.current.contains(&true));
    }

    /// A completed flush that was submitted at event `submitted`, when the file had `size` bytes: gives the ranges made durable.
    pub fn flush(&mut self, submitted: u64, size: usize) -> Vec<(usize, usize)> {
        let size = size.min(self.live.len());
        if self.durable.len() < size {
            self.durable.resize(size, 0);
        }
        let (covered, rest) = std::mem::take(&mut self.unsynced)
            .into_iter()
            .partition(|write| write.completed < submitted && !write.given_up);
        self.unsynced = rest;
        let covered: Vec<Unsynced> = covered;
        for write in &covered {
            write.apply(&mut self.durable, |sector| write.current[sector]);
            self.replaced(write.at, write.bytes.len(), write.completed);
        }
        covered.iter().map(|write| (write.at, write.bytes.len())).collect()
    }

    /// A failed flush: the kernel has told its error once, and will not try these writes again.
    pub fn give_up(&mut self, submitted: u64) {
        for write in self.unsynced.iter_mut().filter(|write| write.completed < submitted) {
            write.given_up = true;
        }
    }

    /// A power cut. `in_flight`: writes submitted and not completed, oldest first.
    pub fn cut(&mut self, mood: Mood, in_flight: Vec<(u64, Vec<u8>)>, random: &mut Random) {
        let longest = in_flight.iter().map(|(at, bytes)| *at as usize + bytes.len()).fold(self.live.len(), usize::max);
        if self.durable.len() < longest && mood != Mood::AllLost && (mood == Mood::AllKept || random.chance(500)) {
            self.durable.resize(*random.pick(&[self.live.len().max(self.durable.len()), longest]), 0);
        }
        let size = self.durable.len();
        for write in std::mem::take(&mut self.unsynced) {
            let kept = mood.kept(write.current.len(), random);
            write.apply(&mut self.durable, |sector| kept[sector] && write.current[sector]);
        }
        for (at, bytes) in in_flight {
            let kept = mood.kept(bytes.len().div_ceil(SECTOR), random);
            let write = Unsynced { at: at as usize, current: kept, bytes, completed: 0, given_up: false };
            write.apply(&mut self.durable, |sector| write.current[sector]);
        }
        self.durable.truncate(size);
        self.live = self.durable.clone();
    }

    /// Changes one bit of what is stored.
    pub fn harm(&mut self, byte: usize, bit: u8) {
        let start = byte / SECTOR * SECTOR;
        let mut harmed = self.durable[start..start + SECTOR].to_vec();
        harmed[byte - start] ^= 1 << bit;
        self.put_harm(start, harmed);
    }

    /// Puts sectors over what is stored, as a write that went astray does; keeps the sound ones for [`Inode::heal`].
    pub fn put_harm(&mut self, at: usize, bytes: Vec<u8>) {
        for (number, harmed) in bytes.chunks(SECTOR).enumerate() {
            let (at, harmed) = (at + number * SECTOR, harmed.to_vec());
            let sound = self.durable[at..at + SECTOR].to_vec();
            put(&mut self.durable, at, &harmed);
            put(&mut self.live, at, &harmed);
            self.harmed.push(Harm { at, sound, harmed });
        }
    }

    /// What is stored, without the harm that the node has not written over.
    pub fn sound(&self) -> Vec<u8> {
        let mut sound = self.live.clone();
        for harm in self.harmed.iter().rev() {
            if sound.get(harm.at..harm.at + SECTOR) == Some(&harm.harmed) {
                put(&mut sound, harm.at, &harm.sound);
            }
        }
        sound
    }

    /// Takes back all harm, but where the node has written since.
    pub fn heal(&mut self) {
        for Harm { at, sound, harmed } in std::mem::take(&mut self.harmed).into_iter().rev() {
            if self.durable.get(at..at + SECTOR) == Some(&harmed) {
                put(&mut self.durable, at, &sound);
                put(&mut self.live, at, &sound);
            }
        }
    }
}

impl Unsynced {
    /// Writes the sectors that `kept` names.
    fn apply(&self, to: &mut Vec<u8>, kept: impl Fn(usize) -> bool) {
        for (sector, bytes) in self.bytes.chunks(SECTOR).enumerate().filter(|(sector, _)| kept(*sector)) {
            put(to, self.at + sector * SECTOR, bytes);
        }
    }
}

fn put(to: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if to.len() < at + bytes.len() {
        to.resize(at + bytes.len(), 0);
    }
    to[at..at + bytes.len()].copy_from_slice(bytes);
}
