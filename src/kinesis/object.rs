//! A request of the API in one of its two encodings: members are looked up by name and type.

use super::cbor_object::{self, Map};
use super::error::{Error, Kind};
use super::json;
use std::collections::BTreeMap;

/// How bodies are written: a request says it by its content type, and is answered in the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-amz-json-1.1`.
    #[default]
    Json,
    /// `application/x-amz-cbor-1.1`: the default of Java's clients.
    Cbor,
}

/// The length of a blob, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    pub len: usize,
}

/// Members of a request. Unknown ones are ignored, null is absent, of two with one name the last counts.
#[derive(Clone, Copy, Debug)]
pub enum Object<'b> {
    Json(json::Object<'b>),
    Cbor(Map<'b>),
}

/// An empty one.
impl Default for Object<'_> {
    fn default() -> Self {
        Object::Json(json::Object::default())
    }
}

/// A request body: an object, and nothing behind it.
pub fn parse(encoding: Encoding, body: &[u8]) -> Result<Object<'_>, Error> {
    match encoding {
        Encoding::Json => json::parse(body).map(Object::Json),
        Encoding::Cbor => cbor_object::parse(body).map(Object::Cbor),
    }
}

impl<'b> Object<'b> {
    pub fn string(&self, name: &str) -> Result<Option<String>, Error> {
        match self {
            Object::Json(object) => object.string(name),
            Object::Cbor(map) => map.string(name),
        }
    }

    /// An integer of Java: fractions are cut off, values beyond 32 bits become the nearest of 32 bits.
    pub fn integer(&self, name: &str) -> Result<Option<i32>, Error> {
        match self {
            Object::Json(object) => object.integer(name),
            Object::Cbor(map) => map.integer(name),
        }
    }

    /// Some words are as good as the literals.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, Error> {
        match self {
            Object::Json(object) => object.boolean(name),
            Object::Cbor(map) => map.boolean(name),
        }
    }

    /// A time since 1970, in microseconds.
    pub fn timestamp(&self, name: &str) -> Result<Option<u64>, Error> {
        match self {
            Object::Json(object) => object.timestamp(name),
            Object::Cbor(map) => map.timestamp(name),
        }
    }

    pub fn object(&self, name: &str) -> Result<Option<Object<'b>>, Error> {
        match self {
            Object::Json(object) => Ok(object.object(name)?.map(Object::Json)),
            Object::Cbor(map) => Ok(map.map(name)?.map(Object::Cbor)),
        }
    }

    /// A list of objects, one after another: `None` stands for a null among them.
    pub fn objects(&self, name: &str) -> Result<Option<Objects<'b>>, Error> {
        Ok(match self {
            Object::Json(object) => object
                .objects(name)?
                .map(|list| -> Objects<'b> { Box::new(list.map(|item| Ok(item?.map(Object::Json)))) }),
            Object::Cbor(map) => {
                map.maps(name)?.map(|list| -> Objects<'b> { Box::new(list.map(|item| Ok(item?.map(Object::Cbor)))) })
            }
        })
    }

    pub fn blob(&self, name: &str) -> Result<Option<Blob>, Error> {
        match self {
            Object::Json(object) => object.blob(name),
            Object::Cbor(map) => map.blob(name),
        }
    }

    /// A map of strings: `most` of them and one more, where there are more than that.
    pub fn strings(&self, name: &str, most: usize) -> Result<Option<BTreeMap<String, String>>, Error> {
        match self {
            Object::Json(object) => object.strings(name, most),
            Object::Cbor(map) => map.strings(name, most),
        }
    }
}

/// Items of a list.
pub type Objects<'b> = Box<dyn Iterator<Item = Result<Option<Object<'b>>, Error>> + 'b>;

pub(super) fn wrong_type(text: impl Into<String>) -> Error {
    Error::new(Kind::Serialization, text)
}

/// What AWS takes for a boolean when it is a string.
pub(super) fn truth(word: &str) -> Result<bool, Error> {
    let unknown = || wrong_type(format!("'{}' can not be converted to an Boolean", shown(&word.to_uppercase())));
    is_true(word.as_bytes()).ok_or_else(unknown)
}

/// The same without a text; `None`: it is neither.
pub(super) fn is_true(text: &[u8]) -> Option<bool> {
    let is_one_of = |words: [&str; 3]| words.iter().any(|word| text.eq_ignore_ascii_case(word.as_bytes()));
    match (is_one_of(["true", "1", "yes"]), is_one_of(["false", "0", "no"])) {
        (false, false) => None,
        (yes, _) => Some(yes),
    }
}

/// How much of a wrong value is shown: of a text of megabytes, the beginning tells which it was.
const SHOWN_MAX: usize = 4096;

/// As much of `text` as goes into the text of an error.
pub(super) fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN_MAX)]
}
