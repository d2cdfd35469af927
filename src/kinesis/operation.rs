//! Which operation a request asks for, and the answers to those that ask for none.

use super::error::{Error, Kind};
use super::object::Encoding;
use crate::http::response::ContentType;

/// An operation that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    PutRecord,
    PutRecords,
    GetRecords,
    /// Decoded by [`super::request::decode`].
    Cold(Cold),
}

/// An operation that is not on the path of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cold {
    CreateStream,
    DecreaseStreamRetentionPeriod,
    DeleteResourcePolicy,
    DeleteStream,
    DeregisterStreamConsumer,
    DescribeStream,
    DescribeStreamConsumer,
    DescribeStreamSummary,
    GetResourcePolicy,
    GetShardIterator,
    IncreaseStreamRetentionPeriod,
    ListShards,
    ListStreamConsumers,
    ListStreams,
    ListTagsForStream,
    MergeShards,
    RegisterStreamConsumer,
    PutResourcePolicy,
    SplitShard,
    SubscribeToShard,
    /// None that is served: said when its body has been found to be JSON.
    Unknown,
}

impl Operation {
    /// From the `X-Amz-Target` header.
    pub fn from_target(target: &[u8]) -> Option<Operation> {
        Some(match target.strip_prefix(b"Kinesis_20131202.")? {
            b"PutRecords" => Operation::PutRecords,
            b"PutRecord" => Operation::PutRecord,
            b"GetRecords" => Operation::GetRecords,
            b"CreateStream" => Operation::Cold(Cold::CreateStream),
            b"DecreaseStreamRetentionPeriod" => Operation::Cold(Cold::DecreaseStreamRetentionPeriod),
            b"DeleteResourcePolicy" => Operation::Cold(Cold::DeleteResourcePolicy),
            b"GetResourcePolicy" => Operation::Cold(Cold::GetResourcePolicy),
            b"PutResourcePolicy" => Operation::Cold(Cold::PutResourcePolicy),
            b"DeleteStream" => Operation::Cold(Cold::DeleteStream),
            b"DescribeStream" => Operation::Cold(Cold::DescribeStream),
            b"DescribeStreamSummary" => Operation::Cold(Cold::DescribeStreamSummary),
            b"GetShardIterator" => Operation::Cold(Cold::GetShardIterator),
            b"IncreaseStreamRetentionPeriod" => Operation::Cold(Cold::IncreaseStreamRetentionPeriod),
            b"ListShards" => Operation::Cold(Cold::ListShards),
            b"ListStreams" => Operation::Cold(Cold::ListStreams),
            b"ListTagsForStream" => Operation::Cold(Cold::ListTagsForStream),
            b"MergeShards" => Operation::Cold(Cold::MergeShards),
            b"DeregisterStreamConsumer" => Operation::Cold(Cold::DeregisterStreamConsumer),
            b"DescribeStreamConsumer" => Operation::Cold(Cold::DescribeStreamConsumer),
            b"ListStreamConsumers" => Operation::Cold(Cold::ListStreamConsumers),
            b"RegisterStreamConsumer" => Operation::Cold(Cold::RegisterStreamConsumer),
            b"SubscribeToShard" => Operation::Cold(Cold::SubscribeToShard),
            b"SplitShard" => Operation::Cold(Cold::SplitShard),
            _ => return None,
        })
    }
}

/// A whole answer to a request that no operation will see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub content_type: ContentType,
    pub body: Vec<u8>,
}

impl Refusal {
    fn new(status: u16, content_type: ContentType, body: impl Into<Vec<u8>>) -> Refusal {
        Refusal { status, content_type, body: body.into() }
    }

    /// An error of the API, in JSON.
    pub fn of(error: &Error) -> Refusal {
        Refusal::new(error.kind.status(), ContentType::AmzJson, error_body(error))
    }
}

const ACCESS_DENIED: &str = "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be authorized</Message>\n\
    </AccessDeniedException>\n";

const JSON: &[u8] = b"application/x-amz-json-1.1";
const CBOR: &[u8] = b"application/x-amz-cbor-1.1";

/// A content type without its parameters.
fn media_type(content_type: Option<&[u8]>) -> &[u8] {
    content_type.unwrap_or(b"").split(|&b| b == b';').next().unwrap_or(b"").trim_ascii()
}

/// In which encoding a request of that content type is read, and answered.
pub fn encoding_of(content_type: Option<&[u8]>) -> Encoding {
    match media_type(content_type).eq_ignore_ascii_case(CBOR) {
        true => Encoding::Cbor,
        false => Encoding::Json,
    }
}

/// Method, target, content type and length of a request, checked in AWS's order. Nothing of the body is needed, so it may be called before
/// the body has arrived when its length is known.
pub fn admit(
    method: &str,
    target: Option<&[u8]>,
    content_type: Option<&[u8]>,
    body_len: usize,
) -> Result<Operation, Refusal> {
    if method != "POST" {
        return Err(Refusal::new(403, ContentType::Xml, ACCESS_DENIED));
    }
    let media_type = media_type(content_type);
    let operation = target.and_then(Operation::from_target);
    if body_len == 0 {
        let kind = if operation.is_some() { Kind::Serialization } else { Kind::UnknownOperation };
        return Err(Refusal::of(&Error::new(kind, "")));
    }
    if media_type.eq_ignore_ascii_case(b"application/json") {
        let body = r#"{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}"#;
        return Err(Refusal::new(404, ContentType::Json, body));
    }
    if !media_type.eq_ignore_ascii_case(JSON) && encoding_of(content_type) != Encoding::Cbor {
        return Err(match target {
            Some(_) => Refusal::new(404, ContentType::Xml, "<UnknownOperationException/>\n"),
            None => Refusal::new(403, ContentType::Xml, ACCESS_DENIED),
        });
    }
    Ok(operation.unwrap_or(Operation::Cold(Cold::Unknown)))
}

/// Under which name the text stands: this one error has a capital.
fn message_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Serialization => "Message",
        _ => "message",
    }
}

/// The body of an error, in JSON.
pub fn error_body(error: &Error) -> Vec<u8> {
    let mut body = serde_json::Map::new();
    body.insert("__type".to_owned(), error.kind.name().into());
    if !error.message.is_empty() {
        body.insert(message_name(error.kind).to_owned(), error.message.as_str().into());
    }
    serde_json::Value::Object(body).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: Option<&[u8]> = Some(super::JSON);
    const LIST: Option<&[u8]> = Some(b"Kinesis_20131202.ListStreams");

    #[track_caller]
    fn check(input: (&str, Option<&[u8]>, Option<&[u8]>, usize), status: u16, content_type: &str, body: &str) {
        let (method, target, content, body_len) = input;
        let refusal = admit(method, target, content, body_len).expect_err("refused");
        assert_eq!(refusal.status, status);
        assert_eq!(refusal.content_type.name(), content_type);
        assert_eq!(String::from_utf8_lossy(&refusal.body), body);
    }

    #[test]
    fn an_operation_is_named_by_its_target() {
        assert_eq!(admit("POST", LIST, JSON, 2), Ok(Operation::Cold(Cold::ListStreams)));
        let with_charset: Option<&[u8]> = Some(b"Application/X-Amz-Json-1.1; charset=utf-8");
        assert_eq!(admit("POST", Some(b"Kinesis_20131202.PutRecords"), with_charset, 2), Ok(Operation::PutRecords));
        assert_eq!(Operation::from_target(b"Kinesis_20131202.putrecords"), None);
        assert_eq!(Operation::from_target(b"Kinesis_20131202."), None);
    }

    #[test]
    fn what_is_no_operation_is_refused_in_the_order_of_aws() {
        const AMZ: &str = "application/x-amz-json-1.1";
        let other: Option<&[u8]> = Some(b"Kinesis_20131202.Other");
        check(("GET", LIST, JSON, 2), 403, "application/xml", ACCESS_DENIED);
        check(("POST", LIST, None, 0), 400, AMZ, r#"{"__type":"SerializationException"}"#);
        check(("POST", other, JSON, 0), 400, AMZ, r#"{"__type":"UnknownOperationException"}"#);
        check(("POST", None, None, 2), 403, "application/xml", ACCESS_DENIED);
        check(("POST", LIST, Some(b"text/plain"), 2), 404, "application/xml", "<UnknownOperationException/>\n");
        let output = r#"{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}"#;
        check(("POST", LIST, Some(b"application/json"), 2), 404, "application/json", output);
        assert_eq!(admit("POST", other, JSON, 2), Ok(Operation::Cold(Cold::Unknown)));
        assert_eq!(admit("POST", None, JSON, 2), Ok(Operation::Cold(Cold::Unknown)));
    }

    #[test]
    fn a_body_is_read_in_the_encoding_of_its_content_type() {
        let cbor: Option<&[u8]> = Some(b"Application/X-Amz-Cbor-1.1; x=y");
        assert_eq!(
            (encoding_of(cbor), encoding_of(JSON), encoding_of(None)),
            (Encoding::Cbor, Encoding::Json, Encoding::Json)
        );
        assert_eq!(admit("POST", LIST, cbor, 1), Ok(Operation::Cold(Cold::ListStreams)));
    }

    #[test]
    fn an_error_has_a_type_and_a_text() {
        let body = |kind, text: &str| String::from_utf8(error_body(&Error::new(kind, text))).expect("UTF-8");
        assert_eq!(
            body(Kind::ResourceNotFound, "Stream \"a\"\n"),
            r#"{"__type":"ResourceNotFoundException","message":"Stream \"a\"\n"}"#
        );
        assert_eq!(
            body(Kind::Serialization, "Expected null"),
            r#"{"Message":"Expected null","__type":"SerializationException"}"#
        );
        assert_eq!(body(Kind::Serialization, ""), r#"{"__type":"SerializationException"}"#);
    }
}
