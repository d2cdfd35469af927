//! What UpdateItem does to an item, in whichever dialect it came.

use super::error::Error;
use super::item::{Item, Value};
use super::number::Number;
use std::collections::BTreeMap;

/// What an attribute becomes, by the item as it was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Value(Value),
    Attribute(String),
    IfNotExists(String, Box<Source>),
    Plus(Box<Source>, Box<Source>),
    Minus(Box<Source>, Box<Source>),
    Append(Box<Source>, Box<Source>),
}

/// What is done to one attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Set(Source),
    Remove,
    /// A number is added, an element is put into a set; an attribute that is not there begins with the value.
    Add(Value),
    /// Elements are taken out of a set.
    Delete(Value),
    /// The legacy dialect's ADD, which appends to lists as well.
    AddOrAppend(Value),
}

/// By the name of the attribute: each may be named once.
pub type Update = BTreeMap<String, Action>;

const WRONG_TYPE: &str = "An operand in the update expression has an incorrect data type";
const NO_ATTRIBUTE: &str = "The provided expression refers to an attribute that does not exist in the item";

impl Source {
    fn value(&self, old: &Item) -> Result<Value, Error> {
        Ok(match self {
            Source::Value(value) => value.clone(),
            Source::Attribute(name) => old.get(name).cloned().ok_or_else(|| Error::validation(NO_ATTRIBUTE))?,
            Source::IfNotExists(name, other) => match old.get(name) {
                Some(value) => value.clone(),
                None => other.value(old)?,
            },
            Source::Plus(a, b) => sum(a.value(old)?, b.value(old)?, |n| n)?,
            Source::Minus(a, b) => sum(a.value(old)?, b.value(old)?, Number::negated)?,
            Source::Append(a, b) => match (a.value(old)?, b.value(old)?) {
                (Value::L(mut list), Value::L(more)) => {
                    list.extend(more);
                    Value::L(list)
                }
                _ => return Err(Error::validation(WRONG_TYPE)),
            },
        })
    }
}

fn sum(a: Value, b: Value, how: impl Fn(Number) -> Number) -> Result<Value, Error> {
    match (a, b) {
        (Value::N(a), Value::N(b)) => a.plus(how(b)).map(Value::N).map_err(|why| Error::validation(why.text(""))),
        _ => Err(Error::validation(WRONG_TYPE)),
    }
}

impl Action {
    /// What the attribute is afterwards; `None`: not there.
    fn value(&self, name: &str, old: &Item) -> Result<Option<Value>, Error> {
        Ok(match self {
            Action::Set(source) => Some(source.value(old)?),
            Action::Remove => None,
            Action::Add(value) | Action::AddOrAppend(value) => {
                let appends = matches!(self, Action::AddOrAppend(_));
                Some(added(old.get(name), value, appends)?)
            }
            Action::Delete(value) => match old.get(name) {
                Some(set) => without(set, value)?,
                None => None,
            },
        })
    }
}

fn added(old: Option<&Value>, value: &Value, appends: bool) -> Result<Value, Error> {
    let wrong = || Error::validation(WRONG_TYPE);
    Ok(match (old, value) {
        (None, Value::N(_) | Value::Ss(_) | Value::Ns(_) | Value::Bs(_)) => value.clone(),
        (None, Value::L(_)) if appends => value.clone(),
        (Some(old @ Value::N(_)), Value::N(_)) => sum(old.clone(), value.clone(), |n| n)?,
        (Some(Value::Ss(old)), Value::Ss(more)) => Value::Ss(old | more),
        (Some(Value::Ns(old)), Value::Ns(more)) => Value::Ns(old | more),
        (Some(Value::Bs(old)), Value::Bs(more)) => Value::Bs(old | more),
        (Some(Value::L(old)), Value::L(more)) if appends => Value::L([&old[..], &more[..]].concat()),
        _ => return Err(wrong()),
    })
}

/// A set without these elements: an empty one is none.
fn without(old: &Value, less: &Value) -> Result<Option<Value>, Error> {
    let rest = match (old, less) {
        (Value::Ss(old), Value::Ss(less)) => Value::Ss(old - less),
        (Value::Ns(old), Value::Ns(less)) => Value::Ns(old - less),
        (Value::Bs(old), Value::Bs(less)) => Value::Bs(old - less),
        _ => return Err(Error::validation(WRONG_TYPE)),
    };
    let is_empty = match &rest {
        Value::Ss(set) => set.is_empty(),
        Value::Ns(set) => set.is_empty(),
        Value::Bs(set) => set.is_empty(),
        _ => false,
    };
    Ok((!is_empty).then_some(rest))
}

/// The item after the update: every action sees it as it was before.
pub fn updated(old: &Item, update: &Update) -> Result<Item, Error> {
    let mut new = old.clone();
    for (name, action) in update {
        match action.value(name, old)? {
            Some(value) => new.insert(name.clone(), value),
            None => new.remove(name),
        };
    }
    Ok(new)
}
