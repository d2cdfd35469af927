//! CBOR (RFC 8949) where it lies in a body: checked as a whole first, then walked through, part by part.
//!
//! Java's clients write maps and lists without a length, strings with one; both forms of each are read. What Kinesis has no use for, names
//! that are no text among them, is refused. Text is checked to be UTF-8.

/// Maps, lists and tags within each other, as with JSON.
const DEPTH_MAX: u32 = 124;

/// What an item begins with. `None` as a length: its parts follow, and a break.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Head {
    Unsigned(u64),
    /// Means -1 less this.
    Negative(u64),
    Bytes(Option<u64>),
    Text(Option<u64>),
    List(Option<u64>),
    Map(Option<u64>),
    Tag(u64),
    Bool(bool),
    /// Null, or undefined.
    Null,
    Float(f64),
    /// A simple value that nobody has given a meaning.
    Other,
    /// The end of what had no length.
    Break,
}

/// Major types, in the upper three bits of an item's first byte.
pub const UNSIGNED: u8 = 0;
pub const NEGATIVE: u8 = 1;
pub const BYTES: u8 = 2;
pub const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
pub const TAG: u8 = 6;

/// Begin a map or a list that a break ends, as AWS's answers have them.
pub const OPEN_MAP: u8 = 0xbf;
pub const OPEN_LIST: u8 = 0x9f;
pub const BREAK: u8 = 0xff;
/// The tag of a time. RFC 8949 has seconds behind it; AWS and its clients have whole milliseconds.
pub const TIME: u64 = 1;

/// The head of an item: its bytes, of which so many count. Always the shortest form.
pub const fn head(major: u8, value: u64) -> ([u8; 9], usize) {
    let be = value.to_be_bytes();
    let (info, from) = match value {
        0..24 => return ([major << 5 | value as u8, 0, 0, 0, 0, 0, 0, 0, 0], 1),
        24..0x100 => (24, 7),
        0x100..0x1_0000 => (25, 6),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 0),
    };
    let mut bytes = [major << 5 | info, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut at = from;
    while at < 8 {
        bytes[1 + at - from] = be[at];
        at += 1;
    }
    (bytes, 9 - from)
}

/// The one item that `bytes` are; `None` if they are no valid CBOR, or more than one item.
pub fn document(bytes: &[u8]) -> Option<&[u8]> {
    let mut walk = Walk::new(bytes);
    walk.skip(0)?;
    (walk.at == bytes.len()).then_some(bytes)
}

/// A place in a body.
#[derive(Clone, Copy, Debug)]
pub struct Walk<'b> {
    pub bytes: &'b [u8],
    pub at: usize,
}

impl<'b> Walk<'b> {
    pub fn new(bytes: &'b [u8]) -> Walk<'b> {
        Walk { bytes, at: 0 }
    }

    /// Takes the head of the next item.
    #[inline]
    pub fn head(&mut self) -> Option<Head> {
        let first = *self.bytes.get(self.at)?;
        self.at += 1;
        let info = first & 31;
        let value = match info {
            0..24 => Some(info as u64),
            24..28 => {
                let len = 1 << (info - 24);
                let bytes = self.bytes.get(self.at..self.at + len)?;
                self.at += len;
                Some(bytes.iter().fold(0, |value, byte| value << 8 | *byte as u64))
            }
            31 => None,
            _ => return None,
        };
        Some(match (first >> 5, value) {
            (UNSIGNED, Some(value)) => Head::Unsigned(value),
            (NEGATIVE, Some(value)) => Head::Negative(value),
            (BYTES, len) => Head::Bytes(len),
            (TEXT, len) => Head::Text(len),
            (LIST, len) => Head::List(len),
            (MAP, len) => Head::Map(len),
            (TAG, Some(tag)) => Head::Tag(tag),
            (7, None) => Head::Break,
            (7, Some(value)) => match info {
                20 | 21 => Head::Bool(info == 21),
                22 | 23 => Head::Null,
                25 => Head::Float(half(value as u16)),
                26 => Head::Float(f32::from_bits(value as u32) as f64),
                27 => Head::Float(f64::from_bits(value)),
                // The long form is for the values that do not fit into the short one.
                24 if value < 32 => return None,
                _ => Head::Other,
            },
            _ => return None,
        })
    }

    /// Takes the next `len` bytes.
    #[inline]
    pub fn take(&mut self, len: u64) -> Option<&'b [u8]> {
        let rest = self.bytes.get(self.at..)?;
        let taken = rest.get(..usize::try_from(len).ok()?)?;
        self.at += taken.len();
        Some(taken)
    }

    /// Takes the break that may stand here.
    #[inline]
    pub fn ends(&mut self) -> bool {
        let ends = self.bytes.get(self.at) == Some(&BREAK);
        self.at += ends as usize;
        ends
    }

    /// Steps over an item, and checks it.
    pub fn skip(&mut self, depth: u32) -> Option<()> {
        let head = self.head()?;
        self.skip_rest(head, depth)
    }

    /// Steps over the rest of an item whose head has been taken.
    pub fn skip_rest(&mut self, head: Head, depth: u32) -> Option<()> {
        match head {
            Head::Break => return None,
            Head::Bytes(Some(len)) => drop(self.take(len)?),
            Head::Text(Some(len)) => drop(std::str::from_utf8(self.take(len)?).ok()?),
            Head::Bytes(None) | Head::Text(None) => self.chunks(head, |_| ())?,
            Head::List(count) => self.items(count, depth, |walk| walk.skip(depth + 1))?,
            Head::Map(count) => self.items(count, depth, |walk| {
                let name = walk.head()?;
                matches!(name, Head::Text(_)).then_some(())?;
                walk.skip_rest(name, depth + 1)?;
                walk.skip(depth + 1)
            })?,
            Head::Tag(_) if depth == DEPTH_MAX => return None,
            Head::Tag(_) => self.skip(depth + 1)?,
            _ => {}
        }
        Some(())
    }

    /// Hands out each piece of a string without a length, whose head `of` has been taken.
    pub fn chunks(&mut self, of: Head, mut piece: impl FnMut(&'b [u8])) -> Option<()> {
        while !self.ends() {
            match (of, self.head()?) {
                (Head::Bytes(_), Head::Bytes(Some(len))) => piece(self.take(len)?),
                (Head::Text(_), Head::Text(Some(len))) => {
                    let text = self.take(len)?;
                    std::str::from_utf8(text).ok()?;
                    piece(text);
                }
                _ => return None,
            }
        }
        Some(())
    }

    fn items(&mut self, count: Option<u64>, depth: u32, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        (depth < DEPTH_MAX).then_some(())?;
        let mut left = Left(count);
        while left.another(self) {
            item(self)?;
        }
        Some(())
    }
}

/// How many parts of a map or list are left; `None`: up to the break.
#[derive(Clone, Copy, Debug)]
pub struct Left(pub Option<u64>);

impl Left {
    /// Whether another one follows; takes the break.
    #[inline]
    pub fn another(&mut self, walk: &mut Walk<'_>) -> bool {
        match &mut self.0 {
            None => !walk.ends(),
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

/// The members of a map, or the items of a list, each as (name, value); items have no name. Names and values are whole items.
pub struct Parts<'b> {
    walk: Walk<'b>,
    left: Left,
    named: bool,
}

impl<'b> Parts<'b> {
    /// Of a map or a list that has been found valid.
    pub fn of(value: &'b [u8]) -> Parts<'b> {
        let mut walk = Walk::new(value);
        let (left, named) = match walk.head() {
            Some(Head::Map(count)) => (count, true),
            Some(Head::List(count)) => (count, false),
            _ => (Some(0), false),
        };
        Parts { walk, left: Left(left), named }
    }

    fn item(&mut self) -> Option<&'b [u8]> {
        let from = self.walk.at;
        self.walk.skip(0)?;
        Some(&self.walk.bytes[from..self.walk.at])
    }
}

impl<'b> Iterator for Parts<'b> {
    type Item = (&'b [u8], &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if !self.left.another(&mut self.walk) {
            return None;
        }
        let name = if self.named { self.item()? } else { &[] };
        Some((name, self.item()?))
    }
}

/// Gives every string of a body a length, in place: the pieces are put together, and what follows moves up. The length that is left; `None` if
/// the body is not valid, and then it is as it was.
pub fn join_chunks(body: &mut [u8]) -> Option<usize> {
    document(body)?;
    let (mut from, mut to) = (0, 0);
    while from < body.len() {
        let mut walk = Walk { bytes: body, at: from };
        let head_of = walk.head()?;
        let behind_head = walk.at;
        match head_of {
            Head::Bytes(Some(len)) | Head::Text(Some(len)) => {
                let end = behind_head + len as usize;
                body.copy_within(from..end, to);
                to += end - from;
                from = end;
            }
            Head::Bytes(None) | Head::Text(None) => {
                let mut len = 0;
                walk.chunks(head_of, |piece| len += piece.len())?;
                let end = walk.at;
                let (bytes, count) = head(body[from] >> 5, len as u64);
                // The new head is no longer than the heads of the pieces and the break, but may be longer than the first of these.
                let pieces_at = gather(body, behind_head, end, len);
                body[to..to + count].copy_from_slice(&bytes[..count]);
                body.copy_within(pieces_at..end, to + count);
                to += count + len;
                from = end;
            }
            _ => {
                body.copy_within(from..behind_head, to);
                to += behind_head - from;
                from = behind_head;
            }
        }
    }
    Some(to)
}

/// Moves the pieces of a string, which lie between `from` and `end` and have `len` bytes together, up to `end`; gives where they begin.
fn gather(body: &mut [u8], from: usize, end: usize, len: usize) -> usize {
    // First down to `from`, over the heads between them, then up as one.
    let (mut at, mut to) = (from, from);
    while to < from + len {
        let mut walk = Walk { bytes: body, at };
        let Some(Head::Bytes(Some(piece)) | Head::Text(Some(piece))) = walk.head() else { break };
        let begin = walk.at;
        at = begin + piece as usize;
        body.copy_within(begin..at, to);
        to += piece as usize;
    }
    body.copy_within(from..from + len, end - len);
    end - len
}

/// A half-precision float.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (bits >> 10 & 31, (bits & 1023) as f64);
    let size = match exponent {
        0 => fraction / (1 << 24) as f64,
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent as i32 - 15),
    };
    if bits >> 15 == 1 { -size } else { size }
}
