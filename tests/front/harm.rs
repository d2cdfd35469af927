//! What becomes of bytes on their way to the server, where they are disturbed: one harm at one place, or several.

use crate::random::Random;
use crate::ring::End;

/// Bytes of HTTP/2 before the first frame.
const PREFACE: usize = 24;
/// Longer than what any harm waits for.
const UNIT_MAX: usize = 1 << 17;

/// What is dropped, repeated and exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    /// Whatever comes in one piece.
    Pieces,
    /// Frames of HTTP/2.
    Frames,
    /// Records of TLS.
    Records,
}

/// What is to happen besides to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    End(End),
    /// The client says in TLS that it sends nothing more.
    Farewell,
}

#[derive(Debug)]
pub struct Harm {
    units: Units,
    /// Units that pass before it strikes, and again behind that.
    spare: u64,
    /// How often it strikes.
    times: u64,
    pending: Vec<u8>,
    begun: bool,
    /// A unit that comes behind the next one.
    behind: Option<Vec<u8>>,
    random: Random,
    pub struck: bool,
}

impl Harm {
    /// `from`: units that pass before it strikes, at least.
    pub fn new(units: Units, from: u64, mut random: Random) -> Harm {
        let times = if random.chance(700) { 1 } else { random.between(2, 40) };
        let spare = from + random.below(14);
        Harm { units, spare, times, pending: Vec::new(), begun: false, behind: None, random, struck: false }
    }

    /// Passes `bytes` on into `out`.
    pub fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Then> {
        self.pending.extend_from_slice(bytes);
        while let Some(len) = self.unit() {
            let unit: Vec<u8> = self.pending.drain(..len).collect();
            if self.spare > 0 || self.times == 0 {
                self.spare = self.spare.saturating_sub(1);
                out.extend_from_slice(&unit);
                out.extend(self.behind.take().unwrap_or_default());
                continue;
            }
            (self.struck, self.times, self.spare) = (true, self.times - 1, self.random.below(6));
            let then = self.strike(unit, out);
            if then.is_some() {
                return then;
            }
        }
        None
    }

    /// How long the first whole unit is that waits.
    fn unit(&mut self) -> Option<usize> {
        let bytes = &self.pending;
        let len = match self.units {
            Units::Pieces => bytes.len(),
            Units::Frames if !self.begun => PREFACE,
            Units::Frames => 9 + u32::from_be_bytes([0, *bytes.first()?, *bytes.get(1)?, *bytes.get(2)?]) as usize,
            Units::Records => 5 + u16::from_be_bytes([*bytes.get(3)?, *bytes.get(4)?]) as usize,
        };
        let whole = len > 0 && bytes.len() >= len.min(UNIT_MAX);
        self.begun |= whole;
        whole.then_some(len.min(UNIT_MAX))
    }

    fn strike(&mut self, mut unit: Vec<u8>, out: &mut Vec<u8>) -> Option<Then> {
        let random = &mut self.random;
        match random.below(10) {
            0 => {
                let at = random.index(unit.len());
                unit[at] ^= 1 << random.below(8);
            }
            // The beginning is where lengths and kinds are.
            1 => {
                let at = random.index(unit.len().min(9));
                unit[at] = random.next() as u8;
            }
            2 => unit.clear(),
            3 => unit = unit.repeat(random.between(2, 4) as usize),
            4 => {
                self.behind = Some(std::mem::take(&mut unit));
            }
            5 => unit.truncate(random.index(unit.len())),
            6 => {
                let at = random.index(unit.len() + 1);
                let bytes: Vec<u8> = (0..random.between(1, 40)).map(|_| random.next() as u8).collect();
                unit.splice(at..at, bytes);
            }
            7 => {
                let frames = if random.chance(800) { 1 } else { random.between(2, 3_000) };
                let kind = random.below(11) as u8;
                (0..frames).for_each(|_| unit.extend(frame(kind, random)));
            }
            8 => {
                out.extend_from_slice(&unit[..random.index(unit.len() + 1)]);
                return Some(Then::End(if random.chance(500) { End::Finished } else { End::Reset }));
            }
            _ => {
                out.extend_from_slice(&unit);
                return Some(Then::Farewell);
            }
        }
        out.extend_from_slice(&unit);
        None
    }
}

/// A frame of HTTP/2 that is well formed outside, of `kind`.
fn frame(kind: u8, random: &mut Random) -> Vec<u8> {
    // SETTINGS, PING, RST_STREAM, WINDOW_UPDATE and PRIORITY have lengths of their own.
    let len = match kind {
        4 => 6 * random.below(4),
        6 => 8,
        3 | 8 => 4,
        2 => 5,
        _ => random.below(60),
    };
    let stream = if matches!(kind, 4 | 6) || random.chance(200) { 0 } else { random.below(40) as u32 };
    let flags = if random.chance(500) { 0 } else { random.next() as u8 };
    let len = (len as u32).to_be_bytes();
    let payload = (0..u32::from_be_bytes(len)).map(|_| random.next() as u8 & 0x7f);
    [&len[1..], &[kind, flags], &stream.to_be_bytes()].concat().into_iter().chain(payload).collect()
}
