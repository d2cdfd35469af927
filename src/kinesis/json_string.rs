//! Strings of JSON as they lie in a request: where they end, whether they are valid, and what their escapes stand for. Nothing allocates.

mod avx2;

use super::base64;
use avx2::plain_len;

/// A string that is valid JSON and valid UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Bytes between the quotes.
    pub len: usize,
    /// Whether escapes are to be undone.
    pub escaped: bool,
    /// Whether every byte is ASCII. (What an escape stands for may be beyond.)
    pub ascii: bool,
}

/// Measures the string at the start of `bytes`, behind its opening quote; `None` if it has no end or is not valid.
pub fn measure(bytes: &[u8]) -> Option<Measured> {
    let mut measured = Measured { len: plain_len(bytes), escaped: false, ascii: true };
    while *bytes.get(measured.len)? != b'"' {
        match bytes[measured.len] {
            b'\\' => {
                measured.escaped = true;
                measured.len += escape(&bytes[measured.len..])?.1;
            }
            ..0x20 => return None,
            _ => {
                measured.ascii = false;
                measured.len += bytes[measured.len..].iter().take_while(|byte| !byte.is_ascii()).count();
            }
        }
        measured.len += plain_len(&bytes[measured.len..]);
    }
    let valid = measured.ascii || std::str::from_utf8(&bytes[..measured.len]).is_ok();
    valid.then_some(measured)
}

fn plain_len_portable(bytes: &[u8]) -> usize {
    let plain = |byte: &u8| matches!(byte, 0x20..0x80) && !matches!(byte, b'"' | b'\\');
    bytes.iter().position(|byte| !plain(byte)).unwrap_or(bytes.len())
}

/// What the escape at the start of `text` stands for, and how long it is. The two halves of a surrogate pair are one escape; half a pair is
/// none.
fn escape(text: &[u8]) -> Option<(char, usize)> {
    let character = match *text.get(1)? {
        byte @ (b'"' | b'\\' | b'/') => byte as char,
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode_escape(text),
        _ => return None,
    };
    Some((character, 2))
}

fn unicode_escape(text: &[u8]) -> Option<(char, usize)> {
    let high = unit(text)?;
    if !(0xd800..0xdc00).contains(&high) {
        return Some((char::from_u32(high)?, 6));
    }
    let low = unit(&text[6..]).filter(|low| (0xdc00..0xe000).contains(low))?;
    Some((char::from_u32(0x10000 + ((high - 0xd800) << 10 | (low - 0xdc00)))?, 12))
}

/// The four hexadecimal digits of the `\u` at the start of `text`.
fn unit(text: &[u8]) -> Option<u32> {
    let [b'\\', b'u', digits @ ..] = text.first_chunk::<6>()? else { return None };
    digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | (*digit as char).to_digit(16)?))
}

/// Undoes the escapes of a measured string in place and gives the new length: no escape is shorter than what it stands for.
pub fn unescape(text: &mut [u8]) -> usize {
    let (mut from, mut to) = (0, 0);
    loop {
        let plain = memchr::memchr(b'\\', &text[from..]).unwrap_or(text.len() - from);
        text.copy_within(from..from + plain, to);
        (from, to) = (from + plain, to + plain);
        let Some((character, used)) = text.get(from..).and_then(escape) else { return to };
        to += character.encode_utf8(&mut text[to..from + used]).len();
        from += used;
    }
}

/// The text of a measured string with its escapes undone in `room`; `None` if it does not fit there.
pub fn unescape_into<'r>(text: &[u8], room: &'r mut [u8]) -> Option<&'r [u8]> {
    let copy = room.get_mut(..text.len())?;
    copy.copy_from_slice(text);
    let len = unescape(copy);
    Some(&copy[..len])
}

/// Characters of a measured string.
pub fn chars(text: &[u8]) -> usize {
    let (mut from, mut count) = (0, 0);
    loop {
        let plain = memchr::memchr(b'\\', &text[from..]).unwrap_or(text.len() - from);
        // The first byte of a character is never a continuation byte, 10xxxxxx.
        count += text[from..from + plain].iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        from += plain;
        let Some((_, used)) = text.get(from..).and_then(escape) else { return count };
        count += 1;
        from += used;
    }
}

/// Bytes that a measured string with escapes holds as base64; `None` if that is not what it is. Some serialisers write `/` as `\/`.
pub fn base64_len(text: &[u8]) -> Option<usize> {
    let (mut at, mut plain, mut padding, mut last) = (0, 0, 0, None);
    while at < text.len() {
        let stretch = base64::alphabet_len(&text[at..]);
        if stretch > 0 {
            at += stretch;
            plain += stretch;
            last = Some(text[at - 1]);
        } else {
            let (character, used) = match text[at] {
                b'\\' => escape(&text[at..])?,
                byte => (byte as char, 1),
            };
            at += used;
            match u8::try_from(character).ok()? {
                b'=' => padding += 1,
                byte if base64::is_of_alphabet(byte) => {
                    plain += 1;
                    last = Some(byte);
                }
                _ => return None,
            }
            continue;
        }
        if padding > 0 {
            return None;
        }
    }
    base64::data_len(plain, last, padding)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Strings with every kind of escape, valid and not.
    const TEXTS: [&str; 20] = [
        "",
        "plain",
        "with \\\"quotes\\\"",
        "\\\\",
        "\\/\\b\\f\\n\\r\\t",
        "\\u0041\\u00e9\\u65e5",
        "\\ud83d\\ude00",
        "\\uD83D\\uDE00x",
        "é日本😀",
        "\\ud83d",
        "\\ud83dx",
        "\\ude00",
        "\\ud83d\\u0041",
        "\\x",
        "\\",
        "\\u12",
        "\\u12g4",
        "\u{1}",
        "tab\there",
        "\\u0000",
    ];

    #[test]
    fn every_string_is_judged_and_read_as_a_general_parser_does() {
        // With enough before and behind to try every kind of step.
        for (before, behind) in [(0, 0), (5, 40), (31, 1), (40, 70)] {
            for text in TEXTS {
                let text = format!("{}{text}{}", "b".repeat(before), "e".repeat(behind));
                let quoted = format!("\"{text}\"");
                let expected = serde_json::from_str::<String>(&quoted).ok();
                let mut bytes = quoted.as_bytes()[1..].to_vec();
                let measured = measure(&bytes);
                assert_eq!(measured.is_some(), expected.is_some(), "{text}");
                let (Some(measured), Some(expected)) = (measured, expected) else { continue };
                assert_eq!((measured.len, measured.escaped), (text.len(), text.contains('\\')), "{text}");
                assert_eq!(chars(text.as_bytes()), expected.chars().count(), "{text}");
                let len = unescape(&mut bytes[..measured.len]);
                assert_eq!(bytes[..len], *expected.as_bytes(), "{text}");
            }
        }
    }

    #[test]
    fn a_string_without_end_or_of_wrong_bytes_is_none() {
        for bytes in [&b"abc"[..], b"", b"\xff\"", b"a\xc3\"", b"\\\"", &[b'x'; 100]] {
            assert_eq!(measure(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn the_plain_part_ends_at_the_same_byte_for_both_kernels() {
        for byte in 0..=255u8 {
            for at in [0, 1, 30, 31, 32, 33, 64, 70] {
                let mut bytes = [b'k'; 71];
                bytes[at] = byte;
                assert_eq!(plain_len(&bytes), plain_len_portable(&bytes), "{byte:#x} at {at}");
            }
        }
    }

    #[test]
    fn base64_is_seen_through_escapes() {
        let cases = [
            ("AA\\/A", Some(3)),
            ("AA=\\u003d", Some(1)),
            ("\\u0041A==", Some(1)),
            ("AB\\u003d=", None),
            ("A\\/=A", None),
            ("AAA\\n", None),
            ("AA\\/", None),
            ("AA==\\/", None),
            ("AAA\\u20ac", None),
            ("", Some(0)),
        ];
        for (text, expected) in cases {
            assert_eq!(base64_len(text.as_bytes()), expected, "{text}");
        }
    }
}
