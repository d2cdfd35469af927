//! From files to findings: the forms that most checks have.

use super::super::root::{Root, Unknown, brief};
use super::{Finding, Host, Verdict};
use std::collections::BTreeMap;

/// Files that a finding names one by one; of the others it gives the number.
const NAMED_MAX: usize = 4;

/// A thing that a check looks at: its name, and what was read of it.
pub type Seen = (String, Result<String, Unknown>);

pub fn met(found: impl Into<String>, wanted: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Met, found: found.into(), wanted: wanted.into() }
}

pub fn unmet(found: impl Into<String>, wanted: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Unmet, found: found.into(), wanted: wanted.into() }
}

pub fn absent(found: impl Into<String>, wanted: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Absent, found: found.into(), wanted: wanted.into() }
}

pub fn unknown(why: impl ToString, wanted: impl Into<String>) -> Finding {
    Finding { verdict: Verdict::Unknown, found: why.to_string(), wanted: wanted.into() }
}

/// Met or not.
pub fn verdict(good: bool, found: impl Into<String>, wanted: impl Into<String>) -> Finding {
    if good { met(found, wanted) } else { unmet(found, wanted) }
}

/// One file that holds one of these words.
pub fn words(host: &Host, path: &str, wanted: &[&str]) -> Finding {
    let told = wanted.join(" or ");
    match host.root.text(path) {
        Ok(text) => verdict(wanted.contains(&chosen(&text)), plain(chosen(&text)), told),
        Err(why) => unknown(why, told),
    }
}

/// One file that holds a number.
pub fn number(host: &Host, path: &str, wanted: &str, good: fn(i64) -> bool) -> Finding {
    match host.root.number(path) {
        Ok(number) => verdict(good(number), number.to_string(), wanted),
        Err(why) => unknown(why, wanted),
    }
}

/// Things of one kind, which must all be good. `none` is said where there are none.
pub fn each(seen: Vec<Seen>, none: &str, wanted: &str, good: impl Fn(&str) -> bool) -> Finding {
    if seen.is_empty() {
        return absent(none, wanted);
    }
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut bad, mut failed) = (false, None);
    for (name, value) in seen {
        match value {
            Ok(value) => {
                bad |= !good(chosen(&value));
                values.entry(plain(chosen(&value))).or_default().push(name);
            }
            Err(why) => failed = failed.or(Some(why)),
        }
    }
    let found = values.iter().map(|(value, names)| format!("{value} ({})", listed(names)));
    let found = found.take(NAMED_MAX).collect::<Vec<_>>().join(", ");
    match (bad, failed) {
        (false, Some(why)) => unknown(why, wanted),
        (bad, _) => verdict(!bad, found, wanted),
    }
}

/// The same file of several things.
pub fn files(root: &Root, things: impl IntoIterator<Item = (String, String)>) -> Vec<Seen> {
    things.into_iter().map(|(name, path)| (name, root.text(&path))).collect()
}

/// A process that has one of these names: its number and its name.
pub fn process(host: &Host, wanted: &[&str]) -> Result<Option<(String, String)>, Unknown> {
    Ok(processes(host, wanted)?.into_iter().next())
}

/// All processes that have one of these names.
pub fn processes(host: &Host, wanted: &[&str]) -> Result<Vec<(String, String)>, Unknown> {
    let numbers = host.root.names("/proc")?;
    let numbers = numbers.into_iter().filter(|name| name.bytes().all(|c| c.is_ascii_digit()));
    // A process that ends meanwhile is none that matters.
    let named = numbers.filter_map(|number| Some((host.root.text(&format!("/proc/{number}/comm")).ok()?, number)));
    let found = named.map(|(name, number)| (number, name)).filter(|(_, name)| wanted.contains(&name.as_str()));
    let found: Vec<(String, String)> = found.collect();
    // A container sees its own processes only: one that is not among them may run all the same.
    let all = || host.root.text("/proc/2/comm").is_ok_and(|name| name == "kthreadd");
    match !found.is_empty() || all() {
        true => Ok(found),
        false => Err(Unknown::because("the processes of the host cannot be seen from here")),
    }
}

/// `a, b, c, d and 3 more`.
pub fn listed(names: &[String]) -> String {
    let named = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Of `a [b] c` the one in brackets.
pub fn chosen(text: &str) -> &str {
    let inner = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inner.map_or(text, |(inner, _)| inner)
}

/// A value as it stands where it is short.
pub fn plain(text: &str) -> String {
    match text.len() <= 60 && !text.chars().any(char::is_control) {
        true => text.to_string(),
        false => brief(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(values: &[Result<&str, &str>]) -> Vec<Seen> {
        let value = |value: &Result<&str, &str>| value.map(String::from).map_err(Unknown::because);
        values.iter().enumerate().map(|(index, each)| (format!("d{index}"), value(each))).collect()
    }

    #[test]
    fn all_must_be_good_and_what_cannot_be_read_is_not() {
        let judge = |values: &[Result<&str, &str>]| each(seen(values), "no drives", "none", |value| value == "none");
        assert_eq!(judge(&[]), absent("no drives", "none"));
        assert_eq!(judge(&[Ok("[none] bfq"), Ok("none")]), met("none (d0, d1)", "none"));
        assert_eq!(judge(&[Ok("none"), Ok("none [bfq]")]), unmet("bfq (d1), none (d0)", "none"));
        assert_eq!(judge(&[Ok("none"), Err("hidden")]), unknown("hidden", "none"));
        assert_eq!(judge(&[Ok("bfq"), Err("hidden")]), unmet("bfq (d0)", "none"));
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..7).map(|number| format!("d{number}")).collect();
        assert_eq!(listed(&names), "d0, d1, d2, d3 and 3 more");
        assert_eq!(plain("a\nb"), "\"a b\"");
    }
}
