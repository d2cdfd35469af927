//! In which dialect a request speaks, and how it is answered in it.

use crate::http::response::ContentType;

/// The name of the service in targets and paths.
const TARGET: &[u8] = b"GraniteServiceVersion20100801.";
const PATH: &str = "/service/GraniteServiceVersion20100801/operation/";
const FORM: &[u8] = b"application/x-www-form-urlencoded";
/// The operation that is served.
pub const PUT_METRIC_DATA: &str = "PutMetricData";

/// A protocol of CloudWatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// JSON, the operation in `X-Amz-Target`.
    Json,
    /// CBOR, the operation in the path.
    Cbor,
    /// A form, the operation in it, and answers in XML.
    Form,
}

/// What a request asks for. In a form the operation is known from the body only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub dialect: Dialect,
    pub is_known: bool,
}

/// The call that a request's head makes, if it makes one of CloudWatch.
pub fn call(path: &str, target: Option<&[u8]>, content_type: Option<&[u8]>) -> Option<Call> {
    if let Some(target) = target {
        let operation = target.strip_prefix(TARGET)?;
        return Some(Call { dialect: Dialect::Json, is_known: operation == PUT_METRIC_DATA.as_bytes() });
    }
    if let Some(operation) = path.strip_prefix(PATH) {
        return Some(Call { dialect: Dialect::Cbor, is_known: operation == PUT_METRIC_DATA });
    }
    let media_type = content_type?.split(|byte| *byte == b';').next()?.trim_ascii();
    media_type.eq_ignore_ascii_case(FORM).then_some(Call { dialect: Dialect::Form, is_known: true })
}

/// An error of CloudWatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub kind: Kind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    InvalidParameterValue,
    InvalidParameterCombination,
    MissingParameter,
    UnknownOperation,
    Throttling,
    Malformed,
    /// Who sends is not known, or may not.
    Refused(&'static str),
}

impl Kind {
    /// Its name where answers are JSON or CBOR, and where they are XML.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Kind::InvalidParameterValue => ("InvalidParameterValueException", "InvalidParameterValue"),
            Kind::InvalidParameterCombination => {
                ("InvalidParameterCombinationException", "InvalidParameterCombination")
            }
            Kind::MissingParameter => ("MissingRequiredParameterException", "MissingParameter"),
            Kind::UnknownOperation => ("UnknownOperationException", "InvalidAction"),
            Kind::Throttling => ("ThrottlingException", "Throttling"),
            Kind::Malformed => ("SerializationException", "MalformedInput"),
            Kind::Refused(name) => (name, in_query(name)),
        }
    }
}

/// What the services that answer in XML call a refusal that newer ones call `name`: older names, which clients go by.
const fn in_query(name: &'static str) -> &'static str {
    match name.as_bytes() {
        b"AccessDeniedException" => "AccessDenied",
        b"InvalidSignatureException" => "SignatureDoesNotMatch",
        b"IncompleteSignatureException" => "IncompleteSignature",
        b"MissingAuthenticationTokenException" => "MissingAuthenticationToken",
        b"UnrecognizedClientException" => "InvalidClientTokenId",
        b"ExpiredTokenException" => "ExpiredToken",
        _ => name,
    }
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into() }
    }

    pub fn unknown_operation() -> Error {
        let text = "Of CloudWatch this server has PutMetricData alone; what it brought is in GET /metrics";
        Error::new(Kind::UnknownOperation, text)
    }
}

/// Status, content type and body of an answer.
pub fn answer(dialect: Dialect, result: Result<(), Error>) -> (u16, ContentType, Vec<u8>) {
    let Err(error) = result else {
        let content_type = match dialect {
            Dialect::Json => ContentType::AmzJsonOld,
            Dialect::Cbor => ContentType::SmithyCbor(None),
            Dialect::Form => ContentType::XmlText,
        };
        return (200, content_type, done(dialect));
    };
    let (name, code) = error.kind.names();
    let content_type = match dialect {
        Dialect::Json => ContentType::QueryError(code),
        Dialect::Cbor => ContentType::SmithyCbor(Some(code)),
        Dialect::Form => ContentType::XmlText,
    };
    let body = match dialect {
        Dialect::Json => serde_json::json!({"__type": name, "message": error.message}).to_string().into_bytes(),
        Dialect::Cbor => {
            let json = serde_json::json!({"__type": name, "message": error.message}).to_string();
            crate::kinesis::cbor_answer::of_json(json.as_bytes())
        }
        Dialect::Form => format!(
            "<ErrorResponse xmlns=\"http://monitoring.amazonaws.com/doc/2010-08-01/\"><Error><Type>Sender</Type>\
             <Code>{code}</Code><Message>{}</Message></Error></ErrorResponse>",
            xml(&error.message)
        )
        .into_bytes(),
    };
    (400, content_type, body)
}

fn done(dialect: Dialect) -> Vec<u8> {
    match dialect {
        Dialect::Json => b"{}".to_vec(),
        // An empty map: clients take it for an answer without members.
        Dialect::Cbor => vec![0xa0],
        Dialect::Form => b"<PutMetricDataResponse xmlns=\"http://monitoring.amazonaws.com/doc/2010-08-01/\">\
            <ResponseMetadata/></PutMetricDataResponse>"
            .to_vec(),
    }
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
