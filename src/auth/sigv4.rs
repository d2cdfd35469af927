//! Signatures of requests (AWS Signature Version 4), by their form. Without credentials that is all that is looked at: a request without a
//! signature is taken, one that claims to be signed must be so as a whole, as AWS asks. With them, `presented` goes on from here.

use crate::kinesis::error::{Error, Kind};

/// How the `Authorization` header of a signed request begins; what follows names the algorithm.
pub(super) const SCHEME: &[u8] = b"AWS4-";
/// In the order in which AWS misses them.
const HEADER_PARTS: [&str; 3] = ["Credential", "Signature", "SignedHeaders"];
pub(super) const ALGORITHM: &str = "X-Amz-Algorithm";
const QUERY_PARTS: [&str; 5] = [ALGORITHM, "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"];

/// Whether the signature of a request, if it has one, has all its parts. `dated`: it has an `X-Amz-Date` or `Date` header. Allocates for an
/// error only.
pub fn check_form(authorization: Option<&[u8]>, query: &str, dated: bool) -> Result<(), Error> {
    let signed_query = query_value(query, ALGORITHM).is_some();
    match authorization.map(<[u8]>::trim_ascii_start).filter(|header| header.starts_with(SCHEME)) {
        Some(_) if signed_query => {
            let text = "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.";
            Err(Error::new(Kind::InvalidSignature, text))
        }
        Some(header) => check_header(header, dated),
        None if signed_query => check_query(query),
        None => Ok(()),
    }
}

fn check_header(header: &[u8], dated: bool) -> Result<(), Error> {
    let missing = |part: &str| !has_part(header, part.as_bytes());
    if dated && !HEADER_PARTS.iter().any(|part| missing(part)) {
        return Ok(());
    }
    let mut text: String = HEADER_PARTS
        .iter()
        .filter(|part| missing(part))
        .map(|part| format!("Authorization header requires '{part}' parameter. "))
        .collect();
    if !dated {
        text.push_str("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ");
    }
    text.push_str(&format!("Authorization={}", String::from_utf8_lossy(header)));
    Err(Error::new(Kind::IncompleteSignature, text))
}

fn has_part(header: &[u8], name: &[u8]) -> bool {
    part(header, name).is_some()
}

/// The value of `name=value` among the parts behind the algorithm, if it has one; commas or blanks stand between them.
pub(super) fn part<'h>(header: &'h [u8], name: &[u8]) -> Option<&'h [u8]> {
    let mut parts = header.split(|byte| matches!(byte, b',' | b' ')).skip(1);
    parts.find_map(|part| part.strip_prefix(name)?.strip_prefix(b"=").filter(|value| !value.is_empty()))
}

fn check_query(query: &str) -> Result<(), Error> {
    let missing = |part: &str| query_value(query, part).is_none_or(str::is_empty);
    if !QUERY_PARTS.iter().any(|part| missing(part)) {
        return Ok(());
    }
    let wanted = QUERY_PARTS.iter().filter(|part| missing(part));
    let mut text: String = wanted.map(|part| format!("AWS query-string parameters must include '{part}'. ")).collect();
    text.push_str("Re-examine the query-string parameters.");
    Err(Error::new(Kind::IncompleteSignature, text))
}

pub(super) fn query_value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| {
        let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
        (found == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] = b"AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/kinesis/aws4_request, SignedHeaders=host;x-amz-date, Signature=00";

    fn told(authorization: Option<&[u8]>, query: &str, dated: bool) -> String {
        check_form(authorization, query, dated).expect_err("refused").to_string()
    }

    #[test]
    fn no_signature_and_a_whole_one_are_taken() {
        let close: Vec<u8> = WHOLE.iter().copied().filter(|byte| *byte != b' ').collect();
        let close = [&b"AWS4-HMAC-SHA256 "[..], &close["AWS4-HMAC-SHA256".len()..]].concat();
        for header in [None, Some(WHOLE), Some(&close), Some(&b"Bearer x"[..])] {
            assert_eq!(check_form(header, "a=b", true), Ok(()));
        }
        let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a&X-Amz-Date=d&X-Amz-SignedHeaders=host&X-Amz-Signature=00";
        assert_eq!(check_form(None, query, false), Ok(()));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(
            told(Some(b"AWS4-HMAC-SHA256 Credential=a, Signature="), "", false),
            "IncompleteSignatureException: Authorization header requires 'Signature' parameter. Authorization header requires \
             'SignedHeaders' parameter. Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. \
             Authorization=AWS4-HMAC-SHA256 Credential=a, Signature="
        );
        assert_eq!(
            told(None, "X-Amz-Algorithm=x&X-Amz-Credential=&X-Amz-Date=d&X-Amz-Signature=0", true),
            "IncompleteSignatureException: AWS query-string parameters must include 'X-Amz-Credential'. AWS query-string parameters must \
             include 'X-Amz-SignedHeaders'. Re-examine the query-string parameters."
        );
        assert_eq!(
            told(Some(WHOLE), "X-Amz-Algorithm", true),
            "InvalidSignatureException: Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header."
        );
    }
}
