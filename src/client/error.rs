//! What can go wrong for a client, and what that means for what it has sent.

use crate::native::refusal::{Code, Outcome, Refusal};
use std::fmt;
use std::io;

/// Why a connection could not be made, or ended, or what a server has answered instead of what was asked.
#[derive(Debug)]
pub enum Error {
    /// The server cannot be reached, or the connection broke.
    Io { what: &'static str, address: String, cause: io::Error },
    /// The server's certificate is not believed, or what it says is no TLS.
    Tls { why: String, address: String },
    /// Nothing came in time.
    TimedOut { what: &'static str, address: String },
    /// The server sent what is no message of the protocol: it is no penstock, or bytes were changed on the way.
    Protocol { what: &'static str, address: String },
    /// The server has refused, for a reason of its own: `code` is a number where this build does not know it.
    Refused { code: Result<Code, u16>, outcome: Outcome, wait_ms: u32, text: String },
    /// A position that was given is not one, or is of an earlier stream of the name.
    Position(String),
}

impl Error {
    pub(super) fn refused(refusal: &Refusal<'_>) -> Error {
        let Refusal { code, outcome, wait_ms, text } = *refusal;
        Error::Refused { code, outcome, wait_ms, text: text.to_owned() }
    }

    /// The server's code, where it is known here.
    pub fn code(&self) -> Option<Code> {
        match self {
            Error::Refused { code, .. } => code.ok(),
            _ => None,
        }
    }

    /// Whether to connect again may help: the server is away, busy, or stops.
    pub fn may_pass(&self) -> bool {
        use Code::*;
        match self {
            Error::Io { .. } | Error::TimedOut { .. } => true,
            Error::Refused { code: Ok(code), .. } => {
                matches!(code, Ended | Busy | Stopping | Idle | Overdue | Lost | Unavailable | CredentialsChanged)
            }
            Error::Tls { .. } | Error::Protocol { .. } | Error::Refused { .. } | Error::Position(_) => false,
        }
    }
}

fn code_text(code: Result<Code, u16>) -> String {
    code.map_or_else(|number| format!("code {number}"), |code| format!("{code:?}"))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { what, address, cause } => write!(f, "{what} at {address}: {cause}"),
            Error::Tls { why, address } => {
                write!(
                    f,
                    "TLS with {address}: {why}; does the server have TLS there, and is its authority the one that was named?"
                )
            }
            Error::TimedOut { what, address } => write!(f, "{what} at {address}: nothing came in time"),
            Error::Protocol { what, address } => {
                write!(
                    f,
                    "{address} does not speak the native protocol as it should: {what}; is it penstock's --native port?"
                )
            }
            Error::Refused { code, text, .. } => write!(f, "the server refuses: {} ({text})", code_text(*code)),
            Error::Position(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

/// Why a record was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutError {
    /// It may be stored or not. To put it again may make a duplicate.
    Unknown { why: String },
    /// It is not stored: it has more bytes of key and data than the stream takes, or a key that is none (1 to 256 characters).
    Invalid { why: String },
    /// It is not stored: the server has said so.
    Refused { code: Result<Code, u16>, text: String },
    /// It is not stored: it could not be sent in time, or there was no room for it among what waits.
    TimedOut { why: String },
    /// It is not stored: the producer has been closed, or has ended for this reason.
    Closed { why: String },
}

impl PutError {
    /// What became of the record.
    pub fn outcome(&self) -> Outcome {
        match self {
            PutError::Unknown { .. } => Outcome::Unknown,
            _ => Outcome::NotStored,
        }
    }
}

impl fmt::Display for PutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PutError::Unknown { why } => write!(f, "the record may be stored or not: {why}"),
            PutError::Invalid { why } => write!(f, "the record is not stored: {why}"),
            PutError::Refused { code, text } => {
                write!(f, "the record is not stored: the server refuses it, {} ({text})", code_text(*code))
            }
            PutError::TimedOut { why } => write!(f, "the record is not stored: {why}"),
            PutError::Closed { why } => write!(f, "the record is not stored: the producer is closed: {why}"),
        }
    }
}

impl std::error::Error for PutError {}
