//! The constraints of the API model, and the text that lists every one a request breaks.

use super::arn::StreamArn;
use super::consumer::ConsumerArn;
use super::error::{Error, Kind};
use super::object::shown;
use std::collections::BTreeMap;

/// AWS lists no more than this.
const VIOLATIONS_MAX: usize = 10;
/// Tags of one request by the model.
pub const TAG_MAP_MAX: usize = 200;

/// A pattern of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Names of streams, shards, consumers.
    Name,
    StreamArn,
    ConsumerArn,
    /// Of a stream or a consumer.
    ResourceArn,
    HashKey,
    SequenceNumber,
    Any,
}

impl Pattern {
    /// As the model writes it.
    const fn text(self) -> &'static str {
        match self {
            Pattern::Name => "[a-zA-Z0-9_.-]+",
            Pattern::StreamArn => "arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+",
            Pattern::ConsumerArn => {
                "^(arn):aws.*:kinesis:.*:\\d{12}:.*stream\\/[a-zA-Z0-9_.-]+\\/consumer\\/[a-zA-Z0-9_.-]+:[0-9]+"
            }
            Pattern::ResourceArn => "arn:aws.*:kinesis:.*:\\d{12}:.*stream/\\S+",
            Pattern::HashKey => "0|([1-9]\\d{0,38})",
            Pattern::SequenceNumber => "0|([1-9]\\d{0,128})",
            Pattern::Any => ".*",
        }
    }

    pub(super) fn matches(self, value: &str) -> bool {
        match self {
            Pattern::Name => !value.is_empty() && value.bytes().all(is_name_byte),
            Pattern::ConsumerArn => ConsumerArn::parse(value).is_some(),
            // Its name may go on with a consumer's.
            Pattern::StreamArn | Pattern::ResourceArn => StreamArn::parse(value).is_some(),
            Pattern::HashKey => is_number(value, 39),
            Pattern::SequenceNumber => is_number(value, 129),
            Pattern::Any => true,
        }
    }
}

const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

fn is_number(value: &str, digits_max: usize) -> bool {
    let digits = value.bytes().all(|b| b.is_ascii_digit()) && (1..=digits_max).contains(&value.len());
    digits && (value == "0" || !value.starts_with('0'))
}

/// What a string must be like.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    pub pattern: Pattern,
    /// In characters, as the model's language counts them: Unicode scalar values.
    pub least: usize,
    pub most: usize,
}

impl Text {
    pub const NAME: Text = Text { pattern: Pattern::Name, least: 1, most: 128 };
    pub const STREAM_ARN: Text = Text { pattern: Pattern::StreamArn, least: 1, most: 2048 };
    pub const CONSUMER_ARN: Text = Text { pattern: Pattern::ConsumerArn, least: 1, most: 2048 };
    pub const RESOURCE_ARN: Text = Text { pattern: Pattern::ResourceArn, least: 1, most: 2048 };
    pub const ANY: Text = Text { pattern: Pattern::Any, least: 0, most: usize::MAX };
    pub const HASH_KEY: Text = Text { pattern: Pattern::HashKey, least: 0, most: usize::MAX };
    pub const SEQUENCE_NUMBER: Text = Text { pattern: Pattern::SequenceNumber, least: 0, most: usize::MAX };
    pub const SHARD_ITERATOR: Text = Text { pattern: Pattern::Any, least: 1, most: 512 };
    pub const NEXT_TOKEN: Text = Text { pattern: Pattern::Any, least: 1, most: 1 << 20 };
    pub const PARTITION_KEY: Text = Text { pattern: Pattern::Any, least: 1, most: 256 };
    pub const TAG_KEY: Text = Text { pattern: Pattern::Any, least: 1, most: 128 };
    const TAG_VALUE: Text = Text { pattern: Pattern::Any, least: 0, most: 256 };

    fn allows_length(&self, value: &str) -> bool {
        (self.least..=self.most).contains(&value.chars().count())
    }
}

/// Collects what a request breaks. Each check gives the value back, or a stand-in that is never used: [`Constraints::check`] fails then.
#[derive(Debug, Default)]
pub struct Constraints {
    violations: Vec<String>,
}

impl Constraints {
    /// Whether more would not be told.
    pub fn are_full(&self) -> bool {
        self.violations.len() >= VIOLATIONS_MAX
    }

    fn violated(&mut self, value: Option<&str>, path: &str, rule: &str) {
        let value = match value {
            Some(value) => format!("'{}'", shown(value)),
            None => "null".to_owned(),
        };
        self.violations.push(format!("Value {value} at '{path}' failed to satisfy constraint: {rule}"));
    }

    pub fn missing(&mut self, path: &str) {
        self.violated(None, path, "Member must not be null");
    }

    pub fn text(&mut self, path: &str, value: Option<String>, rule: &Text) -> Option<String> {
        if let Some(text) = &value {
            if !rule.pattern.matches(text) {
                let rule = format!("Member must satisfy regular expression pattern: {}", rule.pattern.text());
                self.violated(Some(text), path, &rule);
            }
            if text.chars().count() < rule.least {
                self.violated(
                    Some(text),
                    path,
                    &format!("Member must have length greater than or equal to {}", rule.least),
                );
            }
            if text.chars().count() > rule.most {
                self.violated(
                    Some(text),
                    path,
                    &format!("Member must have length less than or equal to {}", rule.most),
                );
            }
        }
        value
    }

    pub fn required_text(&mut self, path: &str, value: Option<String>, rule: &Text) -> String {
        if value.is_none() {
            self.missing(path);
        }
        self.text(path, value, rule).unwrap_or_default()
    }

    /// A required blob of `len` bytes.
    pub fn blob(&mut self, path: &str, len: Option<usize>, most: usize) {
        match len {
            None => self.missing(path),
            Some(len) if len > most => {
                let value = format!("java.nio.HeapByteBuffer[pos=0 lim={len} cap={len}]");
                self.violated(Some(&value), path, &format!("Member must have length less than or equal to {most}"));
            }
            Some(_) => {}
        }
    }

    /// A required list of `len` items; at least one, at most `most`.
    pub fn list(&mut self, path: &str, len: Option<usize>, most: usize) {
        match len {
            None => self.missing(path),
            Some(0) => self.violated(Some("[]"), path, "Member must have length greater than or equal to 1"),
            Some(len) if len > most => {
                let rule = format!("Member must have length less than or equal to {most}");
                self.violated(Some(&format!("[{len} items]")), path, &rule);
            }
            Some(_) => {}
        }
    }

    /// Both ends are allowed.
    pub fn integer(&mut self, path: &str, value: Option<i32>, least: i32, most: i32) -> Option<u32> {
        let value = value?;
        if value < least {
            let rule = format!("Member must have value greater than or equal to {least}");
            self.violated(Some(&value.to_string()), path, &rule);
        }
        if value > most {
            let rule = format!("Member must have value less than or equal to {most}");
            self.violated(Some(&value.to_string()), path, &rule);
        }
        Some(value.max(0) as u32)
    }

    pub fn required_integer(&mut self, path: &str, value: Option<i32>, least: i32, most: i32) -> u32 {
        if value.is_none() {
            self.missing(path);
        }
        self.integer(path, value, least, most).unwrap_or_default()
    }

    /// The value that `names` gives to the text.
    pub fn choice<T: Copy>(&mut self, path: &str, value: Option<String>, names: &[(&str, T)]) -> Option<T> {
        let value = value?;
        let chosen = names.iter().find(|(name, _)| *name == value).map(|(_, chosen)| *chosen);
        if chosen.is_none() {
            let set: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            let rule = format!("Member must satisfy enum value set: [{}]", set.join(", "));
            self.violated(Some(&value), path, &rule);
        }
        chosen
    }

    /// `default` is the stand-in for an absent or wrong one.
    pub fn required_choice<T: Copy>(
        &mut self,
        path: &str,
        value: Option<String>,
        names: &[(&str, T)],
        default: T,
    ) -> T {
        if value.is_none() {
            self.missing(path);
        }
        self.choice(path, value, names).unwrap_or(default)
    }

    /// A map of tags: at least one.
    pub fn tags(&mut self, path: &str, tags: Option<BTreeMap<String, String>>) -> BTreeMap<String, String> {
        let Some(tags) = tags else { return BTreeMap::new() };
        let java_map = || {
            let pairs: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("{{{}}}", pairs.join(", "))
        };
        if tags.is_empty() {
            self.violated(Some("{}"), path, "Member must have length greater than or equal to 1");
        }
        if tags.len() > TAG_MAP_MAX {
            let rule = format!("Member must have length less than or equal to {TAG_MAP_MAX}");
            self.violated(Some(&java_map()), path, &rule);
        }
        let lengths = |rule: &Text| {
            let (most, least) = (rule.most, rule.least);
            let most = format!("Member must have length less than or equal to {most}");
            format!("[{most}, Member must have length greater than or equal to {least}]")
        };
        if !tags.keys().all(|key| Text::TAG_KEY.allows_length(key)) {
            let rule = format!("Map keys must satisfy constraint: {}", lengths(&Text::TAG_KEY));
            self.violated(Some(&java_map()), path, &rule);
        }
        if !tags.values().all(|value| Text::TAG_VALUE.allows_length(value)) {
            let rule = format!("Map value must satisfy constraint: {}", lengths(&Text::TAG_VALUE));
            self.violated(Some(&java_map()), path, &rule);
        }
        tags
    }

    /// Fails with all that was violated.
    pub fn check(mut self) -> Result<(), Error> {
        self.violations.truncate(VIOLATIONS_MAX);
        let plural = match self.violations.len() {
            0 => return Ok(()),
            1 => "",
            _ => "s",
        };
        let (count, list) = (self.violations.len(), self.violations.join("; "));
        Err(Error::new(Kind::Validation, format!("{count} validation error{plural} detected: {list}")))
    }
}
