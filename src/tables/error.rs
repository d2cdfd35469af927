//! The errors of lease tables: DynamoDB's types and texts.

/// The type of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    ConditionalCheckFailed,
    InternalServer,
    LimitExceeded,
    ProvisionedThroughputExceeded,
    ResourceInUse,
    ResourceNotFound,
    Serialization,
    TransactionCanceled,
    UnknownOperation,
    Validation,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Kind::ConditionalCheckFailed => "ConditionalCheckFailedException",
            Kind::InternalServer => "InternalServerError",
            Kind::LimitExceeded => "LimitExceededException",
            Kind::ProvisionedThroughputExceeded => "ProvisionedThroughputExceededException",
            Kind::ResourceInUse => "ResourceInUseException",
            Kind::ResourceNotFound => "ResourceNotFoundException",
            Kind::Serialization => "SerializationException",
            Kind::TransactionCanceled => "TransactionCanceledException",
            Kind::UnknownOperation => "UnknownOperationException",
            Kind::Validation => "ValidationException",
        }
    }

    /// Errors of the front end come from another name space than those of the service.
    const fn space(self) -> &'static str {
        match self {
            Kind::Serialization | Kind::UnknownOperation => "com.amazon.coral.service#",
            Kind::Validation => "com.amazon.coral.validate#",
            _ => "com.amazonaws.dynamodb.v20120810#",
        }
    }
}

/// An error of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub kind: Kind,
    pub message: String,
    /// Further members of the body, as JSON with a comma before each.
    pub beside: String,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), beside: String::new() }
    }

    pub fn validation(message: impl Into<String>) -> Error {
        Error::new(Kind::Validation, message)
    }

    /// Something that DynamoDB has, and that a lease table needs not.
    pub fn beyond(what: &str) -> Error {
        Error::validation(format!("{what} is not served: this is a store for lease tables, not a DynamoDB"))
    }

    pub fn conditional_check_failed() -> Error {
        Error::new(Kind::ConditionalCheckFailed, "The conditional request failed")
    }

    /// The answer of operations on a table as such.
    pub fn no_table(name: &str) -> Error {
        Error::new(Kind::ResourceNotFound, format!("Requested resource not found: Table: {name} not found"))
    }

    /// The answer of operations on items.
    pub fn no_resource() -> Error {
        Error::new(Kind::ResourceNotFound, "Requested resource not found")
    }

    pub fn status(&self) -> u16 {
        if self.kind == Kind::InternalServer { 500 } else { 400 }
    }

    pub fn body(&self) -> String {
        let text = serde_json::Value::from(self.message.as_str());
        // Of all errors only this one has its text under a capital.
        let name = if self.kind == Kind::TransactionCanceled { "Message" } else { "message" };
        format!("{{\"__type\":\"{}{}\",\"{name}\":{text}{}}}", self.kind.space(), self.kind.name(), self.beside)
    }
}
