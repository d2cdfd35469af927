//! Why a request is not let in: for the client in AWS's words, for the operator as one of a few reasons.

use crate::kinesis::error::{Error, Kind};

/// What is counted, and told now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No signature, where one is needed.
    Unsigned,
    /// Parts of the signature are missing or malformed.
    Incomplete,
    /// The access key is not in the credentials, is not active, or came with another session token.
    UnknownKey,
    /// The session token was valid once.
    ExpiredToken,
    /// Signed too long ago, or in the future.
    Clock,
    /// Signed for another region or service.
    Scope,
    /// What was signed is not what has come, or not with this key.
    Signature,
    /// The user may not do it.
    Denied,
    /// A bearer token that is none of the observers'.
    Observer,
}

impl Reason {
    pub const ALL: [Reason; 9] = [
        Reason::Unsigned,
        Reason::Incomplete,
        Reason::UnknownKey,
        Reason::ExpiredToken,
        Reason::Clock,
        Reason::Scope,
        Reason::Signature,
        Reason::Denied,
        Reason::Observer,
    ];

    /// For the operator: what has happened, and what may be wrong.
    pub const fn text(self) -> &'static str {
        match self {
            Reason::Unsigned => "without a signature: give the client an access key of the credentials file",
            Reason::Incomplete => "with a signature that is not whole",
            Reason::UnknownKey => "with an access key that the credentials file does not have, or not as active",
            Reason::ExpiredToken => "with a session token that has expired",
            Reason::Clock => "signed more than five minutes ago or ahead: look at the clocks of client and server",
            Reason::Scope => "signed for another region or service: the client's region must be the server's",
            Reason::Signature => {
                "whose signature is wrong: another secret, or what was signed has been changed on its way"
            }
            Reason::Denied => "that the policies of its user do not allow",
            Reason::Observer => "with a bearer token that is not among the observers of the credentials file",
        }
    }
}

/// A request that is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub reason: Reason,
    pub error: Error,
}

impl Refused {
    pub fn new(reason: Reason, kind: Kind, text: impl Into<String>) -> Refused {
        Refused { reason, error: Error::new(kind, text) }
    }

    pub(super) fn incomplete(text: impl Into<String>) -> Refused {
        Refused::new(Reason::Incomplete, Kind::IncompleteSignature, text)
    }

    pub(super) fn scope(text: impl Into<String>) -> Refused {
        Refused::new(Reason::Scope, Kind::InvalidSignature, text)
    }

    /// The signature is not that of this request: nothing more is said, as more would help who guesses.
    pub(super) fn mismatch() -> Refused {
        let text = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and \
                    signing method. Consult the service documentation for details.";
        Refused::new(Reason::Signature, Kind::InvalidSignature, text)
    }

    pub fn unknown_key() -> Refused {
        let text = "The security token included in the request is invalid.";
        Refused::new(Reason::UnknownKey, Kind::UnrecognizedClient, text)
    }

    pub fn unsigned() -> Refused {
        Refused::new(Reason::Unsigned, Kind::MissingAuthenticationToken, "Missing Authentication Token")
    }
}
