//! JSON requests where they lie in the body: an object whose members are looked up by name and type, with AWS's texts for a wrong type.
//!
//! Unknown members are ignored, `null` is absent, of two members with one name the last counts. Nothing is built of what nobody asks for,
//! so a body of megabytes costs no more memory than the strings that are taken out of it.

use super::base64;
use super::error::Error;
use super::json_skip::{self, Parts};
use super::json_string;
use super::object::{Blob, shown, truth, wrong_type};
use std::collections::BTreeMap;

/// A JSON object that has been found valid.
#[derive(Clone, Copy, Debug)]
pub struct Object<'b>(&'b [u8]);

impl Default for Object<'_> {
    fn default() -> Self {
        Object(b"{}")
    }
}

/// A request body: a JSON object, and nothing behind it.
pub fn parse(body: &[u8]) -> Result<Object<'_>, Error> {
    match json_skip::document(body) {
        Some(value @ [b'{', ..]) => Ok(Object(value)),
        _ => Err(wrong_type("")),
    }
}

/// The text for a list or object where a plain value was wanted.
fn unexpected_start(value: &[u8]) -> Error {
    match value[0] {
        b'[' => wrong_type("Start of list found where not expected"),
        _ => wrong_type("Start of structure or map found where not expected."),
    }
}

/// The text for a plain value of another type, as AWS's Java classes name it.
fn not_convertible(value: &[u8], to: &str) -> Error {
    let class = match value[0] {
        b't' | b'f' => "java.lang.Boolean",
        b'"' => "java.lang.String",
        b'[' | b'{' => return unexpected_start(value),
        _ => "com.amazon.coral.value.json.numbers.TruncatingBigNumber",
    };
    wrong_type(format!("class {class} can not be converted to {to}"))
}

/// The text of a valid JSON string, without its quotes.
fn text(inner: &[u8]) -> String {
    let mut text = inner.to_vec();
    let len = json_string::unescape(&mut text);
    text.truncate(len);
    String::from_utf8(text).unwrap_or_default()
}

fn string(value: &[u8], to: &str) -> Result<String, Error> {
    match value {
        [b'"', inner @ .., b'"'] => Ok(text(inner)),
        _ => Err(not_convertible(value, to)),
    }
}

/// A number of any size: what is beyond the type is infinite, and the nearest there is once it is cast.
fn number(value: &[u8], to: &str) -> Result<f64, Error> {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    match value[0] {
        b'-' | b'0'..=b'9' => number.ok_or_else(|| wrong_type("")),
        _ => Err(not_convertible(value, to)),
    }
}

impl<'b> Object<'b> {
    fn find(&self, name: &str) -> Option<&'b [u8]> {
        let is_it = |found: &[u8]| found == name.as_bytes() || found.contains(&b'\\') && text(found) == name;
        let last = Parts::of(self.0).filter(|(found, _)| is_it(found)).last();
        last.map(|(_, value)| value).filter(|value| *value != b"null")
    }

    pub fn string(&self, name: &str) -> Result<Option<String>, Error> {
        self.find(name).map(|value| string(value, "an String")).transpose()
    }

    /// An integer of Java: fractions are cut off, values beyond 32 bits become the nearest of 32 bits.
    pub fn integer(&self, name: &str) -> Result<Option<i32>, Error> {
        // That is how a float is cast to an integer; every 32-bit integer is exact in a float.
        self.find(name).map(|value| Ok(number(value, "an Integer")? as i32)).transpose()
    }

    /// Some words are as good as the literals.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, Error> {
        match self.find(name) {
            None => Ok(None),
            Some(b"true") => Ok(Some(true)),
            Some(b"false") => Ok(Some(false)),
            Some(value) => truth(&string(value, "an Boolean")?).map(Some),
        }
    }

    /// Seconds since 1970 with a fraction, as microseconds; negative ones count as 1970.
    pub fn timestamp(&self, name: &str) -> Result<Option<u64>, Error> {
        let micros = |value| Ok((number(value, "milliseconds since epoch")? * 1e6).round() as u64);
        self.find(name).map(micros).transpose()
    }

    pub fn object(&self, name: &str) -> Result<Option<Object<'b>>, Error> {
        self.find(name).map(object).transpose()
    }

    /// A list of objects, one after another: `None` stands for a null among them.
    pub fn objects(
        &self,
        name: &str,
    ) -> Result<Option<impl Iterator<Item = Result<Option<Object<'b>>, Error>> + use<'b>>, Error> {
        match self.find(name) {
            None => Ok(None),
            Some(list @ [b'[', ..]) => Ok(Some(Parts::of(list).map(|(_, item)| match item {
                b"null" => Ok(None),
                item => object(item).map(Some),
            }))),
            Some(map @ [b'{', ..]) => Err(unexpected_start(map)),
            Some(_) => Err(wrong_type("Expected list or null")),
        }
    }

    /// A blob, in base64.
    pub fn blob(&self, name: &str) -> Result<Option<Blob>, Error> {
        self.find(name).map(|value| blob(&string(value, "a Blob")?)).transpose()
    }

    /// A map of strings: `most` of them and one more, where there are more than that.
    pub fn strings(&self, name: &str, most: usize) -> Result<Option<BTreeMap<String, String>>, Error> {
        let members = match self.find(name) {
            None => return Ok(None),
            Some(map @ [b'{', ..]) => Parts::of(map),
            Some(list @ [b'[', ..]) => return Err(unexpected_start(list)),
            Some(_) => return Err(wrong_type("Expected map or null")),
        };
        let mut map = BTreeMap::new();
        for (key, value) in members.filter(|(_, value)| *value != b"null") {
            let (key, value) = (text(key), string(value, "an String")?);
            if map.len() <= most || map.contains_key(&key) {
                map.insert(key, value);
            }
        }
        Ok(Some(map))
    }
}

fn object(value: &[u8]) -> Result<Object<'_>, Error> {
    match value[0] {
        b'{' => Ok(Object(value)),
        b'[' => Err(unexpected_start(value)),
        _ => Err(wrong_type("Expected null")),
    }
}

/// What is wrong with base64, as AWS puts it.
fn blob(text: &str) -> Result<Blob, Error> {
    let refused = |why: String| wrong_type(format!("'{}' can not be converted to a Blob: {why}", shown(text)));
    if !text.len().is_multiple_of(4) {
        let found = text.len();
        return Err(refused(format!("Base64 encoded length is expected a multiple of 4 bytes but found: {found}")));
    }
    if let Some(len) = base64::decoded_len(text.as_bytes()) {
        return Ok(Blob { len });
    }
    let plain = base64::alphabet_len(text.as_bytes());
    // Padding is at the end, and nowhere else: of padding before other characters, the last is the one at fault.
    let padding = text[plain..].len() - text[plain..].trim_start_matches('=').len();
    let wrong = match &text[plain + padding..] {
        "" if padding <= 2 => None,
        _ if padding > 0 => Some('='),
        rest => rest.chars().next(),
    };
    Err(refused(match wrong {
        Some(character) => format!("Invalid Base64 character: '{character}'"),
        // Sic: the service spells it so.
        None => "Invalid last non-pad Base64 character dectected".to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::memory_disk::Random;
    use serde_json::Value;

    const NAMES: [&str; 4] = ["a", "StreamName", "é/", ""];
    const PLAIN: [&str; 12] = [
        "null",
        "true",
        "false",
        "0",
        "-1.5e3",
        "\"\"",
        "\"text\"",
        "\"}\\\"],{\"",
        "\"\\u00e9\\/\\ud83d\\ude00\"",
        "\"日本\"",
        "1234",
        "\"null\"",
    ];

    fn space(random: &mut Random) -> &'static str {
        ["", "", "", " ", "\r\n\t"][random.below(5) as usize]
    }

    fn name(random: &mut Random) -> String {
        let name = NAMES[random.below(4) as usize];
        match random.below(3) {
            0 => name.chars().map(|c| format!("\\u{:04x}", c as u32)).collect(),
            _ => name.to_owned(),
        }
    }

    fn value(random: &mut Random, depth: u32) -> String {
        let count = random.below(4);
        let parts = |random: &mut Random, part: fn(&mut Random, u32) -> String| {
            (0..count).map(|_| part(random, depth + 1)).collect::<Vec<_>>().join(",")
        };
        match random.below(if depth < 4 { 5 } else { 3 }) {
            3 => format!("[{}{}]", space(random), parts(random, value)),
            4 => format!("{{{}{}}}", space(random), parts(random, member)),
            _ => format!("{}{}{}", space(random), PLAIN[random.below(12) as usize], space(random)),
        }
    }

    fn member(random: &mut Random, depth: u32) -> String {
        format!("{}\"{}\"{}:{}", space(random), name(random), space(random), value(random, depth))
    }

    /// Every look-up gives what a general parser has under the name, or the text for its type.
    fn check(object: Object<'_>, general: &Value, body: &str) {
        for name in NAMES {
            let found = general.get(name).filter(|value| !value.is_null());
            let is = |test: fn(&Value) -> bool| found.is_none_or(test);
            assert_eq!(
                object.string(name).ok(),
                is(Value::is_string).then(|| found.and_then(Value::as_str).map(String::from)),
                "{body}"
            );
            let number = object.integer(name).ok();
            assert_eq!(number, is(Value::is_number).then(|| found.and_then(Value::as_f64).map(|n| n as i32)), "{body}");
            let inner = object.object(name).ok();
            assert_eq!(inner.is_some(), is(Value::is_object), "{body}");
            if let (Some(Some(inner)), Some(found)) = (inner, found) {
                check(inner, found, body);
            }
            let list = object.objects(name).ok().map(|list| list.into_iter().flatten().collect::<Result<Vec<_>, _>>());
            assert_eq!(list.is_some(), is(Value::is_array), "{body}");
            let (Some(list), Some(Value::Array(items))) = (list, found) else { continue };
            assert_eq!(list.is_ok(), items.iter().all(|item| item.is_null() || item.is_object()), "{body}");
            for (object, item) in list.into_iter().flatten().zip(items) {
                assert_eq!(object.is_none(), item.is_null());
                object.into_iter().for_each(|object| check(object, item, body));
            }
        }
    }

    #[test]
    fn an_object_holds_what_a_general_parser_finds_in_it() {
        for seed in 0..3_000 {
            let random = &mut Random(seed);
            let members: Vec<String> = (0..random.below(6)).map(|_| member(random, 0)).collect();
            let body = format!("{}{{{}}}{}", space(random), members.join(","), space(random));
            let general: Value = serde_json::from_str(&body).expect(&body);
            check(parse(body.as_bytes()).expect(&body), &general, &body);
            for _ in 0..20 {
                let mut changed = body.clone().into_bytes();
                let at = random.below(changed.len() as u64) as usize;
                changed[at] = b"\"\\{}[]:,0-e.n \x01\xff"[random.below(16) as usize];
                let text = String::from_utf8_lossy(&changed);
                let general = serde_json::from_slice::<Value>(&changed).ok().filter(Value::is_object);
                let read = parse(&changed);
                assert_eq!(read.is_ok(), general.is_some(), "{text}");
                read.iter().zip(&general).for_each(|(object, general)| check(*object, general, &text));
            }
        }
    }

    #[test]
    fn a_map_is_kept_up_to_one_more_than_is_allowed() {
        let map = |count: usize, most: usize| {
            let members: Vec<String> =
                (0..count).map(|n| format!("\"k{n}\":\"v\",\"gone\":null,\"k0\":\"{n}\"")).collect();
            let body = format!("{{\"M\":{{{}}}}}", members.join(","));
            parse(body.as_bytes()).expect("valid").strings("M", most).expect("strings").expect("there")
        };
        assert_eq!(map(3, 5), [("k0", "2"), ("k1", "v"), ("k2", "v")].map(|(k, v)| (k.into(), v.into())).into());
        assert_eq!((map(5, 5).len(), map(6, 5).len(), map(7, 5).len(), map(10_000, 5).len()), (5, 6, 6, 6));
        assert_eq!(map(10_000, 5)["k0"], "9999");
    }
}
