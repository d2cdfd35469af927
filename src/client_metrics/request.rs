//! PutMetricData: what it must have, and the data in it.

use super::dialect::{Dialect, Error, Kind};
use super::form;
use super::store::{Name, Statistics};
use serde_json::{Map, Value};

/// Data of a request, dimensions of a datum, values of a datum: as CloudWatch has them.
const DATA_MAX: usize = 1_000;
const DIMENSIONS_MAX: usize = 30;
const VALUES_MAX: usize = 150;
/// Longest name and longest value of a dimension.
const NAME_MAX: usize = 255;
const DIMENSION_VALUE_MAX: usize = 1024;

/// What one datum adds to its metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Datum {
    pub name: Name,
    pub statistics: Statistics,
}

type Members = Map<String, Value>;

/// The data of a request. Times in it are passed over: what comes is of now.
pub fn decode(dialect: Dialect, body: &[u8]) -> Result<Vec<Datum>, Error> {
    let body = form::inflated(body)?;
    let request = form::members(dialect, &body)?;
    let namespace = name(&request, "Namespace", "Namespace", NAME_MAX)?;
    if namespace.starts_with(':') {
        return Err(invalid("Namespace", namespace));
    }
    let data = list(&request, "MetricData", "MetricData")?.ok_or_else(|| missing("MetricData"))?;
    if data.len() > DATA_MAX {
        let text = format!("The collection MetricData must not have a size greater than {DATA_MAX}.");
        return Err(Error::new(Kind::InvalidParameterValue, text));
    }
    data.iter().enumerate().map(|(at, value)| datum(namespace, at + 1, value)).collect()
}

fn missing(path: &str) -> Error {
    Error::new(Kind::MissingParameter, format!("The parameter {path} is required."))
}

fn invalid(path: &str, value: &str) -> Error {
    let value = &value[..value.floor_char_boundary(128)];
    Error::new(Kind::InvalidParameterValue, format!("The value {value} for parameter {path} is invalid."))
}

/// A member that must be there and not be too long.
fn name<'a>(members: &'a Members, member: &str, path: &str, most: usize) -> Result<&'a str, Error> {
    match members.get(member) {
        None | Some(Value::Null) => Err(missing(path)),
        Some(Value::String(text)) if !text.is_empty() && text.len() <= most => Ok(text),
        Some(Value::String(text)) => Err(invalid(path, text)),
        Some(other) => Err(invalid(path, &other.to_string())),
    }
}

fn list<'a>(members: &'a Members, member: &str, path: &str) -> Result<Option<&'a [Value]>, Error> {
    match members.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list)),
        // An empty list of a form.
        Some(Value::String(text)) if text.is_empty() => Ok(Some(&[])),
        Some(other) => Err(invalid(path, &other.to_string())),
    }
}

/// A number, which a form has as text. CloudWatch takes none that is not finite, or that it could not add up.
fn number(value: &Value, path: &str) -> Result<f64, Error> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let number = number.filter(|number: &f64| number.is_finite() && number.abs() <= 2f64.powi(360));
    number.ok_or_else(|| invalid(path, value.as_str().unwrap_or(&value.to_string())))
}

fn datum(namespace: &str, at: usize, value: &Value) -> Result<Datum, Error> {
    let path = |member: &str| format!("MetricData.member.{at}.{member}");
    let members = value.as_object().ok_or_else(|| missing(&path("MetricName")))?;
    let metric = name(members, "MetricName", &path("MetricName"), NAME_MAX)?;
    let mut dimensions = Vec::new();
    for value in list(members, "Dimensions", &path("Dimensions"))?.unwrap_or_default() {
        let at = dimensions.len() + 1;
        let path = |member: &str| path(&format!("Dimensions.member.{at}.{member}"));
        let dimension = value.as_object().ok_or_else(|| missing(&path("Name")))?;
        let of = name(dimension, "Name", &path("Name"), NAME_MAX)?;
        let is = name(dimension, "Value", &path("Value"), DIMENSION_VALUE_MAX)?;
        dimensions.push((of.to_string(), is.to_string()));
        if at > DIMENSIONS_MAX {
            let text =
                format!("The collection {} must not have a size greater than {DIMENSIONS_MAX}.", path("Dimensions"));
            return Err(Error::new(Kind::InvalidParameterValue, text));
        }
    }
    dimensions.sort();
    let unit = match members.get("Unit") {
        None | Some(Value::Null) => "None",
        Some(Value::String(text)) if text.len() <= 32 && !text.is_empty() => text,
        Some(other) => return Err(invalid(&path("Unit"), &other.to_string())),
    };
    let name =
        Name { namespace: namespace.to_string(), metric: metric.to_string(), unit: unit.to_string(), dimensions };
    Ok(Datum { name, statistics: statistics(members, &path)? })
}

/// `Value`, `StatisticValues`, or `Values` with `Counts`: one of them.
fn statistics(members: &Members, path: &impl Fn(&str) -> String) -> Result<Statistics, Error> {
    let there = |name: &str| members.get(name).filter(|value| !value.is_null());
    let given = ["Value", "StatisticValues", "Values"].into_iter().filter(|name| there(name).is_some()).count();
    match given {
        0 => return Err(missing(&path("Value"))),
        1 => {}
        _ => {
            let text = format!(
                "The parameters {}, {} and {} are mutually exclusive and you have specified more than one.",
                path("Value"),
                path("StatisticValues"),
                path("Values")
            );
            return Err(Error::new(Kind::InvalidParameterCombination, text));
        }
    }
    if let Some(value) = there("Value") {
        return Ok(Statistics::of(number(value, &path("Value"))?, 1.0));
    }
    if let Some(set) = there("StatisticValues") {
        let member = |name: &str| {
            let path = path(&format!("StatisticValues.{name}"));
            number(set.get(name).ok_or_else(|| missing(&path))?, &path)
        };
        let (count, sum) = (member("SampleCount")?, member("Sum")?);
        let set = Statistics { count, sum, min: member("Minimum")?, max: member("Maximum")? };
        return match set.count < 0.0 || set.min > set.max {
            true => Err(invalid(&path("StatisticValues"), &format!("{set:?}"))),
            false => Ok(set),
        };
    }
    let values = list(members, "Values", &path("Values"))?.unwrap_or_default();
    let counts = list(members, "Counts", &path("Counts"))?;
    if values.is_empty() || values.len() > VALUES_MAX || counts.is_some_and(|counts| counts.len() != values.len()) {
        let text =
            format!("{} must have 1 to {VALUES_MAX} values, and as many Counts if there are any.", path("Values"));
        return Err(Error::new(Kind::InvalidParameterValue, text));
    }
    let mut all = Statistics::default();
    for (at, value) in values.iter().enumerate() {
        let count = counts.map_or(Ok(1.0), |counts| number(&counts[at], &path("Counts")))?;
        if count < 0.0 {
            return Err(invalid(&path("Counts"), &count.to_string()));
        }
        all.add(Statistics::of(number(value, &path("Values"))?, count));
    }
    Ok(all)
}
