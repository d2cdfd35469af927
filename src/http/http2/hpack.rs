//! Header blocks of HTTP/2 (RFC 7541): read with a table of what the client has said before, written without one.

use super::huffman;
use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// Bytes of the table as the standard counts them; clients take this for granted, and no setting says otherwise.
const TABLE_MAX: usize = 4096;
/// What a header counts beside its name and value (RFC 7541, 4.1; RFC 9113, 10.5.1).
pub const OVERHEAD: usize = 32;

/// Appendix A.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"), (":scheme", "http"),
    (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""), ("accept-encoding", "gzip, deflate"), ("accept-language", ""),
    ("accept-ranges", ""), ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""),
    ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""),
    ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""), ("www-authenticate", ""),
];

/// A block that cannot be read: what follows on the connection cannot either (COMPRESSION_ERROR).
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Reads the blocks of a connection, in the order in which they come.
pub struct Decoder {
    table: Table,
    /// A name and a value that are spelt in the block, or copied from the table.
    name: Vec<u8>,
    value: Vec<u8>,
}

/// Headers that were to be remembered, the newest last.
struct Table {
    /// Names and values of those in `entries`, each behind the one before.
    bytes: Vec<u8>,
    /// Where those begin that are still remembered.
    begin: usize,
    /// Lengths of name and value.
    entries: VecDeque<(u16, u16)>,
    /// As counted by the standard, and how much that may be.
    size: usize,
    most: usize,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder::new()
    }
}

impl Decoder {
    pub fn new() -> Decoder {
        Decoder { table: Table::new(), name: Vec::new(), value: Vec::new() }
    }

    /// Reads a whole block and has `each` see every header of it.
    pub fn read(&mut self, block: &[u8], mut each: impl FnMut(&[u8], &[u8])) -> Result<(), Unreadable> {
        let mut at = block;
        let mut begun = false;
        while let Some(&first) = at.first() {
            if first & 0x80 != 0 {
                let nth = integer(&mut at, 7)?;
                let (name, value) = self.table.get(nth).ok_or(Unreadable)?;
                each(name, value);
            } else if first & 0xe0 == 0x20 {
                // The size of the table changes in front of headers only.
                let most = integer(&mut at, 5)?;
                if begun || most > TABLE_MAX {
                    return Err(Unreadable);
                }
                self.table.limit(most);
                continue;
            } else {
                let remember = first & 0x40 != 0;
                let nth = integer(&mut at, if remember { 6 } else { 4 })?;
                self.name.clear();
                match nth {
                    0 => string(&mut at, &mut self.name)?,
                    _ => self.name.extend_from_slice(self.table.get(nth).ok_or(Unreadable)?.0),
                }
                self.value.clear();
                string(&mut at, &mut self.value)?;
                each(&self.name, &self.value);
                if remember {
                    self.table.add(&self.name, &self.value);
                }
            }
            begun = true;
        }
        Ok(())
    }
}

/// An integer whose first byte has `bits` of it (5.1).
fn integer(at: &mut &[u8], bits: u32) -> Result<usize, Unreadable> {
    let (&first, mut rest) = at.split_first().ok_or(Unreadable)?;
    let most = (1_usize << bits) - 1;
    let mut value = first as usize & most;
    if value == most {
        // Nothing that is counted here needs more than 28 bits.
        for shift in (0..=21).step_by(7) {
            let (&byte, behind) = rest.split_first().ok_or(Unreadable)?;
            rest = behind;
            value += (byte as usize & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *at = rest;
                return Ok(value);
            }
        }
        return Err(Unreadable);
    }
    *at = rest;
    Ok(value)
}

/// A string (5.2), appended to `out`.
fn string(at: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
    let coded = at.first().ok_or(Unreadable)? & 0x80 != 0;
    let len = integer(at, 7)?;
    let (text, rest) = at.split_at_checked(len).ok_or(Unreadable)?;
    *at = rest;
    if coded {
        return huffman::decode(text, out).ok_or(Unreadable);
    }
    out.extend_from_slice(text);
    Ok(())
}

impl Table {
    fn new() -> Table {
        Table { bytes: Vec::new(), begin: 0, entries: VecDeque::new(), size: 0, most: TABLE_MAX }
    }

    /// The header with number `nth`, from 1 on: the standard's, then those that are remembered, the newest first.
    fn get(&self, nth: usize) -> Option<(&[u8], &[u8])> {
        let nth = nth.checked_sub(1)?;
        if let Some((name, value)) = STATIC.get(nth) {
            return Some((name.as_bytes(), value.as_bytes()));
        }
        let back = nth - STATIC.len();
        let mut behind = self.bytes.len();
        for (name, value) in self.entries.iter().rev().take(back) {
            behind -= *name as usize + *value as usize;
        }
        let (name, value) = *self.entries.get(self.entries.len().checked_sub(back + 1)?)?;
        let entry = &self.bytes[behind - name as usize - value as usize..behind];
        Some(entry.split_at(name as usize))
    }

    fn add(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + OVERHEAD;
        self.drop_beyond(self.most.saturating_sub(size));
        // One that is larger than the table empties it, and is no error (4.4).
        if size <= self.most {
            self.bytes.extend_from_slice(name);
            self.bytes.extend_from_slice(value);
            self.entries.push_back((name.len() as u16, value.len() as u16));
            self.size += size;
        }
    }

    fn limit(&mut self, most: usize) {
        self.most = most;
        self.drop_beyond(most);
    }

    /// Forgets the oldest until what is left counts no more than `most`.
    fn drop_beyond(&mut self, most: usize) {
        while self.size > most
            && let Some((name, value)) = self.entries.pop_front()
        {
            let len = name as usize + value as usize;
            self.begin += len;
            self.size -= len + OVERHEAD;
        }
        if self.begin >= TABLE_MAX || self.entries.is_empty() {
            self.bytes.drain(..self.begin);
            self.begin = 0;
        }
    }
}

/// Says that nothing will be remembered. It stands in front of the first block, so that no limit of the client's needs an answer (4.2).
pub const NO_TABLE: u8 = 0x20;

/// Headers of a request that the standard's table has with their values, as blocks have them.
pub const METHOD_POST: u8 = 0x80 | 3;
pub const PATH_ROOT: u8 = 0x80 | 4;
pub const SCHEME_HTTP: u8 = 0x80 | 6;
pub const SCHEME_HTTPS: u8 = 0x80 | 7;

/// Where the standard's table has `:status`.
const STATUSES: RangeInclusive<usize> = 8..=14;

/// Appends the header `:status`.
pub fn put_status(out: &mut Vec<u8>, status: u16) {
    let mut digits = [b'0'; 3];
    for (digit, unit) in digits.iter_mut().zip([100, 10, 1]) {
        *digit += (status / unit % 10) as u8;
    }
    match STATUSES.clone().find(|nth| STATIC[nth - 1].1.as_bytes() == digits) {
        Some(nth) => out.push(0x80 | nth as u8),
        None => {
            put_integer(out, 0, 4, *STATUSES.start());
            put_string(out, &digits);
        }
    }
}

/// Appends a header; the name may be in any case, as it is written in lower case. It is not to be remembered.
pub fn put(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    match STATIC.iter().position(|(other, _)| other.as_bytes().eq_ignore_ascii_case(name)) {
        Some(place) => put_integer(out, 0, 4, place + 1),
        None => {
            put_integer(out, 0, 4, 0);
            let begin = out.len() + 1;
            put_string(out, name);
            out[begin..].make_ascii_lowercase();
        }
    }
    put_string(out, value);
}

/// Appends a string as it is.
pub fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    put_integer(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

fn put_integer(out: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
    let most = (1 << bits) - 1;
    if value < most {
        return out.push(first | value as u8);
    }
    out.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    type Headers = Vec<(String, String)>;

    fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Headers, Unreadable> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut headers = Vec::new();
        decoder.read(block, |name, value| headers.push((text(name), text(value))))?;
        Ok(headers)
    }

    fn headers(of: &[(&str, &str)]) -> Headers {
        of.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    /// Appendix C.4 of the standard: three requests on one connection, with Huffman's code; C.3 says the same without.
    #[test]
    fn requests_of_the_standard() {
        let first =
            headers(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]);
        let mut second = first.clone();
        second.push(("cache-control".into(), "no-cache".into()));
        let third = headers(&[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            (":authority", "www.example.com"),
            ("custom-key", "custom-value"),
        ]);
        let coded: [&[u8]; 3] = [
            b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
            b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
            b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
        ];
        let plain: [&[u8]; 3] = [
            b"\x82\x86\x84\x41\x0fwww.example.com",
            b"\x82\x86\x84\xbe\x58\x08no-cache",
            b"\x82\x87\x85\xbf\x40\x0acustom-key\x0ccustom-value",
        ];
        for blocks in [coded, plain] {
            let mut decoder = Decoder::new();
            for (block, wanted) in blocks.iter().zip([&first, &second, &third]) {
                assert_eq!(read(&mut decoder, block).as_ref(), Ok(wanted));
            }
            assert_eq!((decoder.table.size, decoder.table.entries.len()), (164, 3));
        }
    }

    #[test]
    fn the_table_forgets_the_oldest() {
        let mut decoder = Decoder::new();
        // Room for two entries of 42.
        assert_eq!(read(&mut decoder, b"\x3f\x3d"), Ok(Vec::new()), "to 92");
        for n in 0..200 {
            let value = format!("{n:04}");
            let block = [b"\x40\x06custom\x04", value.as_bytes()].concat();
            read(&mut decoder, &block).expect("well formed");
            assert_eq!(read(&mut decoder, b"\xbe"), Ok(headers(&[("custom", &value)])));
            let before = (n > 0).then(|| headers(&[("custom", &format!("{:04}", n - 1))]));
            assert_eq!(read(&mut decoder, b"\xbf").ok(), before);
            assert_eq!(read(&mut decoder, b"\xc0"), Err(Unreadable));
            assert!(decoder.table.bytes.len() <= 2 * TABLE_MAX);
        }
        // A name may be that of an entry that goes for its sake.
        let long = "v".repeat(50);
        read(&mut decoder, &[b"\x7f\x00\x32", long.as_bytes()].concat()).expect("well formed");
        assert_eq!(read(&mut decoder, b"\xbe"), Ok(headers(&[("custom", &long)])));
        // What does not fit at all empties it.
        read(&mut decoder, &[b"\x40\x01x\x64", "v".repeat(100).as_bytes()].concat()).expect("well formed");
        assert_eq!(read(&mut decoder, b"\xbe"), Err(Unreadable));
        assert_eq!((decoder.table.size, decoder.table.bytes.len()), (0, 0));
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for block in [
            &b"\x80"[..],                // number 0
            b"\xff\xff\xff\xff\xff\xff", // a number without end
            b"\xff\xff\xff\xff\x7f",     // far behind the table
            b"\x40",                     // no name
            b"\x40\x05abc",              // a name that ends early
            b"\x40\x03abc",              // no value
            b"\x40\x03abc\x85ab",        // a coded value that ends early
            b"\x40\x81\xff\x00",         // what is no code
            b"\x82\x20",                 // a size behind a header
            b"\x3f\xe2\x1f",             // a size above 4,096
        ] {
            assert_eq!(read(&mut Decoder::new(), block), Err(Unreadable), "{block:x?}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut block = vec![NO_TABLE];
        for status in [200, 204, 206, 304, 400, 404, 500, 403, 503] {
            put_status(&mut block, status);
        }
        let long = "z".repeat(300);
        put(&mut block, b"Content-Type", b"application/json");
        put(&mut block, b"x-amzn-RequestId", long.as_bytes());
        let mut read = read(&mut Decoder::new(), &block).expect("well formed");
        let rest = read.split_off(9);
        let statuses: Vec<&str> =
            read.iter().map(|(name, value)| (assert_eq!(name, ":status"), value.as_str()).1).collect();
        assert_eq!(statuses, ["200", "204", "206", "304", "400", "404", "500", "403", "503"]);
        assert_eq!(rest, headers(&[("content-type", "application/json"), ("x-amzn-requestid", &long)]));
    }
}
