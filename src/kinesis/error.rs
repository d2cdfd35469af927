//! The errors of the API: a type as AWS names it, a text, and what HTTP says of it.

use std::fmt;

/// The type of an error, as it stands in `__type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    ResourceNotFound,
    ResourceInUse,
    InvalidArgument,
    LimitExceeded,
    Validation,
    ProvisionedThroughputExceeded,
    ExpiredIterator,
    ExpiredNextToken,
    Serialization,
    UnknownOperation,
    InternalFailure,
    DryRunOperation,
    IncompleteSignature,
    InvalidSignature,
    MissingAuthenticationToken,
    UnrecognizedClient,
    ExpiredToken,
    AccessDenied,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Kind::ResourceNotFound => "ResourceNotFoundException",
            Kind::ResourceInUse => "ResourceInUseException",
            Kind::InvalidArgument => "InvalidArgumentException",
            Kind::LimitExceeded => "LimitExceededException",
            Kind::Validation => "ValidationException",
            Kind::ProvisionedThroughputExceeded => "ProvisionedThroughputExceededException",
            Kind::ExpiredIterator => "ExpiredIteratorException",
            Kind::ExpiredNextToken => "ExpiredNextTokenException",
            Kind::Serialization => "SerializationException",
            Kind::UnknownOperation => "UnknownOperationException",
            Kind::InternalFailure => "InternalFailure",
            Kind::DryRunOperation => "DryRunOperationException",
            Kind::IncompleteSignature => "IncompleteSignatureException",
            Kind::InvalidSignature => "InvalidSignatureException",
            Kind::MissingAuthenticationToken => "MissingAuthenticationTokenException",
            Kind::UnrecognizedClient => "UnrecognizedClientException",
            Kind::ExpiredToken => "ExpiredTokenException",
            Kind::AccessDenied => "AccessDeniedException",
        }
    }

    /// 400 for every modelled error, 500 for our own failures.
    pub const fn status(self) -> u16 {
        match self {
            Kind::InternalFailure => 500,
            _ => 400,
        }
    }
}

/// An error of the API. Errors are rare: their text is allocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub kind: Kind,
    /// Empty where AWS sends none.
    pub message: String,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.message)
    }
}

impl std::error::Error for Error {}
