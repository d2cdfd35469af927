//! Members of a request, by name and type.

use super::error::{Error, Kind};
use serde_json::{Map, Value as Json};

/// The members of an object. Null is absent.
#[derive(Clone, Copy, Debug)]
pub struct Members<'a>(&'a Map<String, Json>);

/// The body of a request: an object, and nothing behind it.
pub fn parse(body: &[u8]) -> Result<Json, Error> {
    let json: Option<Json> = serde_json::from_slice(body).ok();
    json.filter(Json::is_object).ok_or_else(|| Error::new(Kind::Serialization, ""))
}

fn wrong(name: &str, wanted: &str) -> Error {
    Error::new(Kind::Serialization, format!("{name} must be {wanted}"))
}

impl<'a> Members<'a> {
    pub fn of(json: &'a Json, name: &str) -> Result<Members<'a>, Error> {
        json.as_object().map(Members).ok_or_else(|| wrong(name, "a structure"))
    }

    pub fn json(&self, name: &str) -> Option<&'a Json> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub fn text(&self, name: &str) -> Result<Option<&'a str>, Error> {
        self.json(name).map(|value| value.as_str().ok_or_else(|| wrong(name, "a string"))).transpose()
    }

    pub fn truth(&self, name: &str) -> Result<Option<bool>, Error> {
        self.json(name).map(|value| value.as_bool().ok_or_else(|| wrong(name, "a boolean"))).transpose()
    }

    pub fn number(&self, name: &str) -> Result<Option<i64>, Error> {
        self.json(name).map(|value| value.as_i64().ok_or_else(|| wrong(name, "a whole number"))).transpose()
    }

    pub fn list(&self, name: &str) -> Result<Option<&'a [Json]>, Error> {
        let list = |value: &'a Json| value.as_array().map(Vec::as_slice).ok_or_else(|| wrong(name, "a list"));
        self.json(name).map(list).transpose()
    }

    pub fn members(&self, name: &str) -> Result<Option<Members<'a>>, Error> {
        self.json(name).map(|value| Members::of(value, name)).transpose()
    }

    pub fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Json)> + use<'a> {
        self.0.iter().filter(|(_, value)| !value.is_null())
    }

    /// What must be there.
    pub fn wanted<T>(&self, name: &str, value: Option<T>) -> Result<T, Error> {
        value.ok_or_else(|| {
            let member = lower_camel(name);
            let text = format!(
                "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
            );
            Error::validation(text)
        })
    }

    /// One of the words that a member may be.
    pub fn word(&self, name: &str, words: &[&'static str]) -> Result<Option<&'static str>, Error> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let found = words.iter().find(|word| **word == text).copied();
        found.map(Some).ok_or_else(|| {
            let constraint = format!("Member must satisfy enum value set: [{}]", words.join(", "));
            violation(text, name, &constraint)
        })
    }

    /// Refuses members that this store does not have, when they ask for something.
    pub fn none_of(&self, names: &[&str]) -> Result<(), Error> {
        let is_empty = |value: &Json| matches!(value, Json::Array(list) if list.is_empty());
        match names.iter().find(|name| self.json(name).is_some_and(|value| !is_empty(value))) {
            Some(name) => Err(Error::beyond(name)),
            None => Ok(()),
        }
    }
}

fn lower_camel(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or(String::new(), |first| first.to_lowercase().chain(letters).collect())
}

/// The text of a constraint that a value does not satisfy.
pub fn violation(value: &str, name: &str, constraint: &str) -> Error {
    let (value, name) = (&value[..value.floor_char_boundary(256)], lower_camel(name));
    let text =
        format!("1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: {constraint}");
    Error::validation(text)
}
