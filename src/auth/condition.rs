//! Conditions of policies: an operator, what it looks at, and the values that it compares with.

use super::ask::{Ask, Name};
use super::glob::{Glob, Style};
use super::stamp::Stamp;
use std::cmp::Ordering;
use std::net::IpAddr;

#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    name: Name,
    test: Test,
    /// `...NotEquals` and the like: none of the values may fit.
    inverted: bool,
    /// `...IfExists`: what the request does not have is no obstacle.
    if_exists: bool,
    quantity: Quantity,
}

/// Of what a request may have several of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantity {
    /// What has one value only; if it has several, one of them is enough.
    One,
    /// `ForAnyValue:`
    Any,
    /// `ForAllValues:`
    All,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Text(Vec<Glob>),
    /// Six parts each.
    Arn(Vec<[Glob; 6]>),
    Number(Orders, Vec<f64>),
    Date(Orders, Vec<u64>),
    Bool(Vec<bool>),
    Address(Vec<(IpAddr, u8)>),
    /// It must be absent (`true`), or there.
    Null(bool),
}

/// The orders of request and policy that are meant.
type Orders = &'static [Ordering];

const EQUAL: Orders = &[Ordering::Equal];
const LESS: Orders = &[Ordering::Less];
const AT_MOST: Orders = &[Ordering::Less, Ordering::Equal];
const GREATER: Orders = &[Ordering::Greater];
const AT_LEAST: Orders = &[Ordering::Greater, Ordering::Equal];

/// What follows `Numeric` or `Date`.
fn orders(rest: &str) -> Option<(Orders, bool)> {
    Some(match rest {
        "equals" => (EQUAL, false),
        "notequals" => (EQUAL, true),
        "lessthan" => (LESS, false),
        "lessthanequals" => (AT_MOST, false),
        "greaterthan" => (GREATER, false),
        "greaterthanequals" => (AT_LEAST, false),
        _ => return None,
    })
}

impl Condition {
    /// `operator` and `name` as they stand in the document. `variables`: its version has them.
    pub fn read(operator: &str, name: &str, values: &[&str], variables: bool) -> Result<Condition, String> {
        let lower = operator.to_ascii_lowercase();
        let (quantity, rest) = match (lower.strip_prefix("forallvalues:"), lower.strip_prefix("foranyvalue:")) {
            (Some(rest), _) => (Quantity::All, rest),
            (_, Some(rest)) => (Quantity::Any, rest),
            (None, None) => (Quantity::One, lower.as_str()),
        };
        let (rest, if_exists) = rest.strip_suffix("ifexists").map_or((rest, false), |rest| (rest, true));
        let name = Name::read(name).ok_or_else(|| format!("the key {name} is not known here"))?;
        let read = Test::read(rest, values, variables)?;
        let (test, inverted) = read.ok_or_else(|| format!("the operator {operator} is not known here"))?;
        if matches!(test, Test::Null(_)) && if_exists {
            return Err(format!("the operator {operator} is not known here"));
        }
        Ok(Condition { name, test, inverted, if_exists, quantity })
    }

    pub fn holds(&self, ask: &Ask<'_>) -> bool {
        let (mut count, mut fitting) = (0, 0);
        ask.each(&self.name, &mut |value| {
            count += 1;
            fitting += (self.test.fits(value, ask) != self.inverted) as usize;
        });
        match (&self.test, self.quantity) {
            (Test::Null(absent), _) => (count == 0) == *absent,
            // What is not there is unlike everything.
            (_, Quantity::One) if count == 0 => self.if_exists || self.inverted,
            (_, Quantity::Any) if count == 0 => self.if_exists,
            (_, Quantity::One | Quantity::Any) => fitting > 0,
            (_, Quantity::All) => fitting == count,
        }
    }
}

impl Test {
    /// The test of an operator in small letters, and whether it is inverted; `None`: there is no such operator.
    fn read(operator: &str, values: &[&str], variables: bool) -> Result<Option<(Test, bool)>, String> {
        let text = |wild, folds| {
            let style = Style { wild, variables, folds };
            values.iter().map(|value| Glob::read(value, style)).collect::<Result<_, _>>().map(Test::Text)
        };
        let arn = || values.iter().map(|value| arn(value, variables)).collect::<Result<_, _>>().map(Test::Arn);
        Ok(Some(match operator {
            "stringequals" => (text(false, false)?, false),
            "stringnotequals" => (text(false, false)?, true),
            "stringequalsignorecase" => (text(false, true)?, false),
            "stringnotequalsignorecase" => (text(false, true)?, true),
            "stringlike" => (text(true, false)?, false),
            "stringnotlike" => (text(true, false)?, true),
            "arnequals" | "arnlike" => (arn()?, false),
            "arnnotequals" | "arnnotlike" => (arn()?, true),
            "bool" => (Test::Bool(each(values, truth, "true or false")?), false),
            "ipaddress" => (Test::Address(each(values, network, "an address, as in 10.0.0.0/8")?), false),
            "notipaddress" => (Test::Address(each(values, network, "an address, as in 10.0.0.0/8")?), true),
            "null" => match values {
                [one] => (Test::Null(truth(one).ok_or_else(|| format!("{one} is not true or false"))?), false),
                _ => return Err("takes one value".to_owned()),
            },
            other => {
                let number = other.strip_prefix("numeric").and_then(orders);
                let date = other.strip_prefix("date").and_then(orders);
                match (number, date) {
                    (Some((orders, inverted)), _) => {
                        (Test::Number(orders, each(values, number_of, "a number")?), inverted)
                    }
                    (_, Some((orders, inverted))) => {
                        (Test::Date(orders, each(values, date_of, "a time, as in 2026-01-31T23:59:59Z")?), inverted)
                    }
                    (None, None) => return Ok(None),
                }
            }
        }))
    }

    fn fits(&self, value: &str, ask: &Ask<'_>) -> bool {
        match self {
            Test::Text(globs) => globs.iter().any(|glob| glob.matches(value, ask)),
            Test::Arn(arns) => arns.iter().any(|arn| {
                let mut parts = value.splitn(6, ':');
                arn.iter().all(|glob| parts.next().is_some_and(|part| glob.matches(part, ask)))
            }),
            Test::Number(orders, numbers) => number_of(value)
                .is_some_and(|value| numbers.iter().any(|n| value.partial_cmp(n).is_some_and(|o| orders.contains(&o)))),
            Test::Date(orders, dates) => {
                date_of(value).is_some_and(|value| dates.iter().any(|date| orders.contains(&value.cmp(date))))
            }
            Test::Bool(wanted) => truth(value).is_some_and(|value| wanted.contains(&value)),
            Test::Address(networks) => value
                .parse()
                .is_ok_and(|address: IpAddr| networks.iter().any(|network| is_in(address.to_canonical(), *network))),
            Test::Null(_) => true,
        }
    }
}

fn each<T>(values: &[&str], read: impl Fn(&str) -> Option<T>, what: &str) -> Result<Vec<T>, String> {
    values.iter().map(|value| read(value).ok_or_else(|| format!("{value} is not {what}"))).collect()
}

fn arn(text: &str, variables: bool) -> Result<[Glob; 6], String> {
    let style = Style { wild: true, variables, folds: false };
    let mut parts = Vec::with_capacity(6);
    let (mut from, mut in_variable) = (0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if text[..at].ends_with('$') => in_variable = true,
            b'}' => in_variable = false,
            b':' if !in_variable && parts.len() < 5 => {
                parts.push(Glob::read(&text[from..at], style)?);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(Glob::read(&text[from..], style)?);
    parts.try_into().map_err(|_| format!("{text} is not an ARN, which has six parts between colons"))
}

fn truth(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn number_of(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// `2026-01-31T23:59:59Z`, the same without punctuation, `2026-01-31`, or seconds since 1970.
fn date_of(text: &str) -> Option<u64> {
    let mut basic = [0; 16];
    let mut len = 0;
    for byte in text.bytes().filter(|byte| !matches!(byte, b'-' | b':')) {
        *basic.get_mut(len)? = byte;
        len += 1;
    }
    if text.len() > 4 && text.as_bytes()[4] == b'-' && len == 8 {
        basic[8..].copy_from_slice(b"T000000Z");
        len = 16;
    }
    match Stamp::parse(&basic[..len]) {
        Some(stamp) => Some(stamp.seconds),
        None => text.parse().ok(),
    }
}

/// `10.0.0.0/8`, or one address.
fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
    (bits <= most).then_some((address, bits))
}

fn is_in(address: IpAddr, (network, bits): (IpAddr, u8)) -> bool {
    let (difference, width) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => ((a.to_bits() ^ b.to_bits()) as u128, 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits(), 128),
        _ => return false,
    };
    bits == 0 || difference >> (width - bits as u32) == 0
}
