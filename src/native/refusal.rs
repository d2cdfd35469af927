//! Errors: why something was refused, and what that means for what was sent.

use super::message::{Fields, Filler, Header, Kind, blank};
use crate::log::format::{HEADER, ShardKey, stride};

/// What became of the records that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// It is not about records.
    Nothing = 0,
    /// They are not stored and never will be: to send them again makes no duplicate.
    NotStored = 1,
    Stored = 2,
    /// They may be stored or not.
    Unknown = 3,
}

macro_rules! codes {
    ($($name:ident = $number:literal $outcome:ident,)*) => {
        /// Why. What it means for the records is the same each time.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Code { $($name = $number,)* }
        /// In the order of their numbers, each with its name and what became of the records.
        pub const CODES: &[(Code, &str, Outcome)] = &[$((Code::$name, stringify!($name), Outcome::$outcome),)*];
    };
}

codes! {
    Ended = 0 Nothing,
    // Of a batch.
    ShardClosed = 1 NotStored,
    UnknownShard = 2 NotStored,
    Full = 3 NotStored,
    RecordTooLarge = 4 NotStored,
    BadBatch = 5 NotStored,
    BadChecksum = 6 NotStored,
    Denied = 7 NotStored,
    Unavailable = 8 NotStored,
    Lost = 9 Unknown,
    UnknownProducer = 10 NotStored,
    Fenced = 11 NotStored,
    OutOfOrder = 12 NotStored,
    Throttled = 13 NotStored,
    TooManyProducers = 14 NotStored,
    // Of a read or a subscription.
    Unreadable = 20 Nothing,
    ReaderBusy = 21 Nothing,
    NotServed = 22 Nothing,
    ReadersFull = 23 Nothing,
    // Of a connection: what is said is of the batches that it has not answered.
    Malformed = 32 NotStored,
    Version = 33 NotStored,
    UnknownStream = 34 NotStored,
    NotProved = 35 NotStored,
    Busy = 36 NotStored,
    Stopping = 37 NotStored,
    Idle = 38 NotStored,
    Overdue = 39 NotStored,
    StreamGone = 40 NotStored,
    CredentialsChanged = 41 NotStored,
}

impl Code {
    pub fn outcome(self) -> Outcome {
        CODES.iter().find(|(code, ..)| *code == self).map_or(Outcome::Unknown, |(.., outcome)| *outcome)
    }

    pub fn of(number: u16) -> Option<Code> {
        CODES.iter().map(|(code, ..)| *code).find(|code| *code as u16 == number)
    }
}

impl Outcome {
    fn of(byte: u8) -> Option<Outcome> {
        [Outcome::Nothing, Outcome::NotStored, Outcome::Stored, Outcome::Unknown]
            .into_iter()
            .find(|outcome| *outcome as u8 == byte)
    }
}

/// What is wrong with something that a client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub code: Code,
    /// A sentence for whoever looks for the reason.
    pub why: &'static str,
}

/// Longest text of an error.
pub const TEXT_MAX: usize = 512;
/// Room that an error takes at most.
pub const REFUSAL_MAX: usize = stride(8 + TEXT_MAX as u32) as usize;

/// The body of `Refused` and of `Goodbye`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// Of a code that this build does not know, the number.
    pub code: Result<Code, u16>,
    pub outcome: Outcome,
    /// Trying again makes sense after so many milliseconds; 0: nothing is known of that.
    pub wait_ms: u32,
    pub text: &'a str,
}

impl<'a> Refusal<'a> {
    pub fn of(fault: &Fault, wait_ms: u32) -> Refusal<'static> {
        Refusal { code: Ok(fault.code), outcome: fault.code.outcome(), wait_ms, text: fault.why }
    }

    fn encode(&self, out: &mut [u8], header: Header) -> usize {
        let code = self.code.map_or_else(|number| number, |code| code as u16);
        let end = self.text.floor_char_boundary(TEXT_MAX);
        let mut body = Filler::body_of(out);
        body.put(&code.to_le_bytes()).put(&[self.outcome as u8, 0]).put(&self.wait_ms.to_le_bytes());
        body.put(&self.text.as_bytes()[..end]);
        body.seal(header)
    }

    /// Writes a `Refused` for the batch `number` of `shard`.
    pub fn refused(&self, out: &mut [u8], shard: ShardKey, number: u32, count: u32) -> usize {
        self.encode(out, Header { shard, number, count, ..blank(Kind::Refused) })
    }

    /// Writes a `Goodbye`.
    pub fn goodbye(&self, out: &mut [u8]) -> usize {
        self.encode(out, blank(Kind::Goodbye))
    }

    pub fn decode(body: &'a [u8]) -> Option<Refusal<'a>> {
        let mut fields = Fields(body);
        let (number, outcome, _) = (fields.u16()?, fields.u8()?, fields.u8()?);
        let wait_ms = fields.u32()?;
        let text = std::str::from_utf8(fields.0).ok().filter(|text| text.len() <= TEXT_MAX)?;
        Some(Refusal { code: Code::of(number).ok_or(number), outcome: Outcome::of(outcome)?, wait_ms, text })
    }
}

const _: () = assert!(REFUSAL_MAX.is_multiple_of(HEADER));
