//! Steps over JSON that nobody asked for, and checks it on the way: what is skipped must be valid too. What has been checked can be walked
//! through, part by part, where it lies.

use super::json_string;

/// Lists and objects within each other; with those around a skipped value, no more than general parsers take.
const DEPTH_MAX: u32 = 124;

/// Length of the value at the start of `bytes`, with white space before it; `None` if it is not valid.
pub fn value_len(bytes: &[u8]) -> Option<usize> {
    let mut walk = Walk { bytes, at: 0 };
    walk.value(0)?;
    Some(walk.at)
}

/// The one value that `bytes` are, without the white space around it; `None` if they are no valid JSON, or more than one value.
pub fn document(bytes: &[u8]) -> Option<&[u8]> {
    let (value, mut rest) = first_value(bytes)?;
    rest.peek().is_none().then_some(value)
}

/// The value at the start of `bytes`, without the white space before it, and the walk behind it.
fn first_value(bytes: &[u8]) -> Option<(&[u8], Walk<'_>)> {
    let mut walk = Walk { bytes, at: 0 };
    walk.peek()?;
    let from = walk.at;
    walk.value(0)?;
    Some((&bytes[from..walk.at], walk))
}

/// The members of an object, or the items of a list, each as (what is between the quotes of its name, value). Items have no name.
pub struct Parts<'b> {
    rest: &'b [u8],
    named: bool,
}

impl<'b> Parts<'b> {
    /// Of an object or a list that has been found valid.
    pub fn of(value: &'b [u8]) -> Parts<'b> {
        Parts { rest: value, named: value.first() == Some(&b'{') }
    }
}

impl<'b> Iterator for Parts<'b> {
    type Item = (&'b [u8], &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // A bracket or a comma comes first. What ends an object or a list begins no part, nor does what may lie behind it.
        let bytes = self.rest.get(1..)?;
        let mut walk = Walk { bytes, at: 0 };
        let mut name: &[u8] = b"";
        if self.named {
            walk.peek()?;
            let from = walk.at + 1;
            walk.string()?;
            name = &bytes[from..walk.at - 1];
            walk.take(b':')?;
        }
        let (value, mut behind) = first_value(&bytes[walk.at..])?;
        behind.peek();
        self.rest = &bytes[walk.at + behind.at..];
        Some((name, value))
    }
}

struct Walk<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Walk<'_> {
    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        let found = self.peek()? == byte;
        self.at += 1;
        found.then_some(())
    }

    fn value(&mut self, depth: u32) -> Option<()> {
        match self.peek()? {
            b'"' => self.string(),
            b'{' => self.items(depth, b'}', |walk| {
                walk.string()?;
                walk.take(b':')?;
                walk.value(depth + 1)
            }),
            b'[' => self.items(depth, b']', |walk| walk.value(depth + 1)),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => self.number(),
        }
    }

    /// What stands between a bracket and `end`, with commas between.
    fn items(&mut self, depth: u32, end: u8, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.at += 1;
        if depth == DEPTH_MAX {
            return None;
        }
        if self.peek()? == end {
            return self.take(end);
        }
        loop {
            item(self)?;
            match self.peek()? {
                b',' => self.at += 1,
                _ => return self.take(end),
            }
        }
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        self.at += json_string::measure(&self.bytes[self.at..])?.len + 1;
        Some(())
    }

    fn literal(&mut self, text: &[u8]) -> Option<()> {
        let found = self.bytes[self.at..].starts_with(text);
        self.at += text.len();
        found.then_some(())
    }

    fn number(&mut self) -> Option<()> {
        self.one_of(b"-");
        if !self.one_of(b"0") {
            self.digits()?;
        }
        if self.one_of(b".") {
            self.digits()?;
        }
        if self.one_of(b"eE") {
            self.one_of(b"+-");
            self.digits()?;
        }
        Some(())
    }

    /// Steps over the next byte if it is among `bytes`.
    fn one_of(&mut self, bytes: &[u8]) -> bool {
        let found = self.bytes.get(self.at).is_some_and(|byte| bytes.contains(byte));
        self.at += usize::from(found);
        found
    }

    /// At least one digit.
    fn digits(&mut self) -> Option<()> {
        let count = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        (count > 0).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Map, Value};

    #[test]
    fn a_value_is_valid_where_a_general_parser_says_so() {
        let values = [
            "null",
            "true",
            "false",
            "nul",
            "truefalse",
            "0",
            "-0",
            "01",
            "-",
            "1.5",
            "1.",
            ".5",
            "1e5",
            "1E+5",
            "1e",
            "-1.5e-3",
            "+1",
            "\"\"",
            "\"a\\n\"",
            "\"a",
            "[]",
            "[ ]",
            "[1,2 , 3]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{}",
            "{\"a\":1}",
            "{\"a\":1,}",
            "{\"a\"}",
            "{1:2}",
            "{\"a\":[{\"b\":[[],{}]}], \"c\" : null}",
            "[}",
            "{]",
            "",
            " ",
            "\u{e9}",
            "\"\u{e9}\"",
            "\"\\ud800\"",
            "[[[[1]]]]",
        ];
        for value in values {
            for text in [value.to_owned(), format!(" \n{value}"), format!("[{value}]"), format!("{{\"k\":{value}}}")] {
                let valid = serde_json::from_str::<Value>(&text).is_ok();
                let whole = value_len(text.as_bytes()) == Some(text.len());
                assert_eq!(whole, valid, "{text:?}");
            }
        }
    }

    #[test]
    fn every_cut_and_change_is_judged_as_a_general_parser_does() {
        let text = r#"{"a":[1,-2.5e+7,{"b\u00e9":"c\\d","e":[]}],"f":{"g":null,"h":true},"i":"日本"}"#;
        for cut in 0..text.len() {
            assert_eq!(value_len(&text.as_bytes()[..cut]), None, "cut at {cut}");
        }
        for at in 0..text.len() {
            for byte in *b"\"\\{}[]:,0e-.n \x01\xff" {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] = byte;
                let valid = serde_json::from_slice::<Value>(&bytes).is_ok();
                assert_eq!(value_len(&bytes) == Some(bytes.len()), valid, "{}", String::from_utf8_lossy(&bytes));
            }
        }
    }

    /// What the parts of `value` add up to, as a general parser has it.
    fn rebuilt(value: &[u8]) -> Value {
        match value[0] {
            b'[' => Parts::of(value).map(|(_, item)| rebuilt(item)).collect(),
            b'{' => {
                let text =
                    |name: &[u8]| serde_json::from_slice(&[b"\"", name, b"\""].concat()).expect("a name is a string");
                Parts::of(value).map(|(name, member)| (text(name), rebuilt(member))).collect::<Map<_, _>>().into()
            }
            _ => serde_json::from_slice(value).expect("a plain value"),
        }
    }

    #[test]
    fn parts_are_those_that_a_general_parser_finds() {
        for text in [
            "{}",
            " [ ] ",
            "\n{ \"a\" : [ ] , \"b\":{\"c\" :1 , \"d\": [2,[],{} ] } }\t",
            "[[[]],[{}],\"],[\",\"\\\"}\", -1.5e3 ,null,true]",
            r#"{"a":1,"\u0061":2,"b":"}","":{"":[]},"\"":"\\"}"#,
        ] {
            let value = document(text.as_bytes()).expect(text);
            assert_eq!(rebuilt(value), serde_json::from_str::<Value>(text).expect(text), "{text}");
        }
        for text in ["", " ", "{} {}", "[]x", "{", "1 2", "\u{c}{}", "{}\u{c}"] {
            assert_eq!(document(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn depth_has_a_bound() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(value_len(nested(124).as_bytes()), Some(248));
        assert_eq!(value_len(nested(125).as_bytes()), None);
        assert_eq!(value_len("[".repeat(1_000_000).as_bytes()), None);
    }
}
