//! Conditions on an item, in whichever dialect they came.

use super::item::{Item, Value};
use std::cmp::Ordering;

/// What an operator is applied to: the value of an attribute, or one of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    Attribute(String),
    Value(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A condition. An item that is not there is judged as one without attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    Compare(Operand, Comparison, Operand),
    Between(Operand, Operand, Operand),
    In(Operand, Vec<Operand>),
    Exists(String),
    NotExists(String),
    BeginsWith(Operand, Operand),
    Contains(Operand, Operand),
}

impl Operand {
    fn of<'a>(&'a self, item: &'a Item) -> Option<&'a Value> {
        match self {
            Operand::Attribute(name) => item.get(name),
            Operand::Value(value) => Some(value),
        }
    }
}

/// Which of two values comes first; `None` where they have no order.
pub fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::S(a), Value::S(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Value::N(a), Value::N(b)) => Some(a.cmp(b)),
        (Value::B(a), Value::B(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

impl Comparison {
    /// An attribute that is not there is unequal to everything, and neither less nor greater.
    fn holds(self, a: Option<&Value>, b: Option<&Value>) -> bool {
        let (Some(a), Some(b)) = (a, b) else { return self == Comparison::Unequal };
        match self {
            Comparison::Equal => a == b,
            Comparison::Unequal => a != b,
            Comparison::Less => order(a, b).is_some_and(Ordering::is_lt),
            Comparison::LessOrEqual => order(a, b).is_some_and(Ordering::is_le),
            Comparison::Greater => order(a, b).is_some_and(Ordering::is_gt),
            Comparison::GreaterOrEqual => order(a, b).is_some_and(Ordering::is_ge),
        }
    }
}

fn begins_with(value: &Value, with: &Value) -> bool {
    match (value, with) {
        (Value::S(text), Value::S(with)) => text.starts_with(with.as_str()),
        (Value::B(bytes), Value::B(with)) => bytes.starts_with(with),
        _ => false,
    }
}

fn contains(value: &Value, part: &Value) -> bool {
    match (value, part) {
        (Value::S(text), Value::S(part)) => text.contains(part.as_str()),
        (Value::B(bytes), Value::B(part)) => part.is_empty() || bytes.windows(part.len()).any(|piece| piece == part),
        (Value::Ss(set), Value::S(part)) => set.contains(part),
        (Value::Ns(set), Value::N(part)) => set.contains(part),
        (Value::Bs(set), Value::B(part)) => set.contains(part),
        (Value::L(list), part) => list.contains(part),
        _ => false,
    }
}

impl Condition {
    pub fn holds(&self, item: &Item) -> bool {
        let both = |a: &Operand, b: &Operand, test: fn(&Value, &Value) -> bool| match (a.of(item), b.of(item)) {
            (Some(a), Some(b)) => test(a, b),
            _ => false,
        };
        match self {
            Condition::And(all) => all.iter().all(|condition| condition.holds(item)),
            Condition::Or(any) => any.iter().any(|condition| condition.holds(item)),
            Condition::Not(condition) => !condition.holds(item),
            Condition::Compare(a, comparison, b) => comparison.holds(a.of(item), b.of(item)),
            Condition::Between(value, low, high) => {
                Comparison::GreaterOrEqual.holds(value.of(item), low.of(item))
                    && Comparison::LessOrEqual.holds(value.of(item), high.of(item))
            }
            Condition::In(value, list) => {
                list.iter().any(|other| Comparison::Equal.holds(value.of(item), other.of(item)))
            }
            Condition::Exists(name) => item.contains_key(name),
            Condition::NotExists(name) => !item.contains_key(name),
            Condition::BeginsWith(value, with) => both(value, with, begins_with),
            Condition::Contains(value, part) => both(value, part, contains),
        }
    }

    /// The conditions that must all hold.
    pub fn all(&self) -> &[Condition] {
        match self {
            Condition::And(all) => all,
            one => std::slice::from_ref(one),
        }
    }

    /// The attribute that this one is about, and for an equality the value; `None`: it is not a comparison of one attribute with values.
    pub fn on_attribute(&self) -> Option<(&str, Option<&Value>)> {
        match self {
            Condition::Compare(Operand::Attribute(name), Comparison::Equal, Operand::Value(value))
            | Condition::Compare(Operand::Value(value), Comparison::Equal, Operand::Attribute(name)) => {
                Some((name, Some(value)))
            }
            Condition::Compare(_, Comparison::Unequal, _) => None,
            Condition::Compare(Operand::Attribute(name), _, Operand::Value(_))
            | Condition::Compare(Operand::Value(_), _, Operand::Attribute(name))
            | Condition::Between(Operand::Attribute(name), Operand::Value(_), Operand::Value(_))
            | Condition::BeginsWith(Operand::Attribute(name), Operand::Value(_)) => Some((name, None)),
            _ => None,
        }
    }
}
