//! The CBOR that a put is scanned from. Data is in the body as it will be stored; strings in pieces are not taken here.

use super::cbor::{Head, Left, Walk};
use super::object;
use super::put_scan::{Extent, Name, Parser, Raw, Unexpected};

/// A place in the body.
pub(super) struct CborParser<'b>(Walk<'b>);

impl<'b> CborParser<'b> {
    pub fn new(bytes: &'b [u8]) -> CborParser<'b> {
        CborParser(Walk::new(bytes))
    }

    #[inline]
    fn head(&mut self) -> Result<Head, Unexpected> {
        self.0.head().ok_or(Unexpected)
    }

    #[inline]
    fn extent(&mut self, len: u64) -> Result<(Extent, &'b [u8]), Unexpected> {
        let at = self.0.at as u32;
        let bytes = self.0.take(len).ok_or(Unexpected)?;
        Ok((Extent { at, len: bytes.len() as u32 }, bytes))
    }
}

impl Parser for CborParser<'_> {
    type Open = Left;

    fn bytes(&self) -> &[u8] {
        self.0.bytes
    }

    fn map(&mut self) -> Result<Left, Unexpected> {
        match self.head()? {
            Head::Map(count) => Ok(Left(count)),
            _ => Err(Unexpected),
        }
    }

    fn list(&mut self) -> Result<Left, Unexpected> {
        match self.head()? {
            Head::List(count) => Ok(Left(count)),
            _ => Err(Unexpected),
        }
    }

    fn item(&mut self, list: &mut Left) -> Result<bool, Unexpected> {
        Ok(list.another(&mut self.0))
    }

    fn member(&mut self, map: &mut Left) -> Result<Option<Name>, Unexpected> {
        if !map.another(&mut self.0) {
            return Ok(None);
        }
        match self.head()? {
            Head::Text(Some(len)) => {
                let (_, name) = self.extent(len)?;
                match Name::of(name) {
                    Name::Unknown if std::str::from_utf8(name).is_err() => Err(Unexpected),
                    name => Ok(Some(name)),
                }
            }
            _ => Err(Unexpected),
        }
    }

    fn null(&mut self) -> Result<bool, Unexpected> {
        let mut walk = self.0;
        let is_null = walk.head().ok_or(Unexpected)? == Head::Null;
        if is_null {
            self.0 = walk;
        }
        Ok(is_null)
    }

    fn boolean(&mut self) -> Result<bool, Unexpected> {
        match self.head()? {
            Head::Bool(is) => Ok(is),
            Head::Null => Ok(false),
            Head::Text(Some(len)) => object::is_true(self.extent(len)?.1).ok_or(Unexpected),
            _ => Err(Unexpected),
        }
    }

    fn string(&mut self) -> Result<Option<Raw>, Unexpected> {
        match self.head()? {
            Head::Null => Ok(None),
            Head::Text(Some(len)) => {
                let (extent, text) = self.extent(len)?;
                let ascii = text.is_ascii();
                if !ascii && std::str::from_utf8(text).is_err() {
                    return Err(Unexpected);
                }
                Ok(Some(Raw { extent, escaped: false, ascii }))
            }
            _ => Err(Unexpected),
        }
    }

    fn data(&mut self) -> Result<Option<(Raw, usize)>, Unexpected> {
        match self.head()? {
            Head::Null => Ok(None),
            Head::Bytes(Some(len)) => {
                let (extent, _) = self.extent(len)?;
                Ok(Some((Raw { extent, escaped: false, ascii: false }, extent.len as usize)))
            }
            _ => Err(Unexpected),
        }
    }

    fn skip(&mut self) -> Result<(), Unexpected> {
        // Within the request, its records, and one of them.
        self.0.skip(3).ok_or(Unexpected)
    }

    fn end(&mut self) -> Result<(), Unexpected> {
        (self.0.at == self.0.bytes.len()).then_some(()).ok_or(Unexpected)
    }
}
