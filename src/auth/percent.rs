//! Percent-encoding as signatures count it: only letters, digits and `-._~` stand for themselves.

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn encoded(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [b'%', DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]
}

/// Gives `text` to `sink` in encoded form, whatever is encoded in it already: as the parts of a path are signed.
pub fn encode(text: &[u8], sink: &mut impl FnMut(&[u8])) {
    let mut rest = text;
    while !rest.is_empty() {
        let plain = rest.iter().position(|byte| !is_plain(*byte)).unwrap_or(rest.len());
        sink(&rest[..plain]);
        rest = &rest[plain..];
        if let Some((byte, behind)) = rest.split_first() {
            sink(&encoded(*byte));
            rest = behind;
        }
    }
}

/// The bytes that `text` stands for. A percent sign that begins no code stands for itself.
pub fn decoded(text: &str) -> impl Iterator<Item = u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| (*byte as char).to_digit(16));
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *bytes.get(at)?;
        if byte == b'%'
            && let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2))
        {
            at += 3;
            return Some((high << 4 | low) as u8);
        }
        at += 1;
        Some(byte)
    })
}

/// `text` in the one form in which a query's parts are signed: decoded, then encoded.
pub fn canonical(text: &str) -> impl Iterator<Item = u8> {
    decoded(text).flat_map(|byte| {
        let (code, len) = if is_plain(byte) { ([byte, 0, 0], 1) } else { (encoded(byte), 3) };
        code.into_iter().take(len)
    })
}

/// Decodes into the front of `out`, and gives the text and what is left of `out`; `None`: it does not fit, or is no text.
pub fn decode_into<'o>(text: &str, out: &'o mut [u8]) -> Option<(&'o str, &'o mut [u8])> {
    let mut len = 0;
    for byte in decoded(text) {
        *out.get_mut(len)? = byte;
        len += 1;
    }
    let (front, rest) = out.split_at_mut(len);
    Some((std::str::from_utf8(front).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_one_form_and_a_path_is_encoded_again() {
        let canonical = |text| String::from_utf8(canonical(text).collect()).expect("ASCII");
        assert_eq!(canonical("a%2fb c%20~%zz%"), "a%2Fb%20c%20~%25zz%25");
        assert_eq!(canonical("é"), "%C3%A9");
        let mut out = Vec::new();
        encode(b"a b%20~", &mut |piece: &[u8]| out.extend_from_slice(piece));
        assert_eq!(out, b"a%20b%2520~");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut room = [0; 4];
        assert_eq!(
            decode_into("a%2Fb", &mut room).map(|(text, rest)| (text.to_owned(), rest.len())),
            Some(("a/b".into(), 1))
        );
        assert!(decode_into("abcde", &mut room).is_none() && decode_into("%FF", &mut room).is_none());
    }
}
