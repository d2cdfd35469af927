//! Reads, answered from the tables as they are.

use super::condition::{Condition, order};
use super::describe;
use super::error::Error;
use super::item::{Item, Value, item_to_json, parse_stored, write_text};
use super::judge::key_alone;
use super::legacy::holds;
use super::limits::PAGE_BYTES_MAX;
use super::request::{Page, Read};
use super::state::{Index, KeyPart, Projection, Table, Tables};
use crate::catalog::identity::Identity;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;

/// The body of the answer.
pub fn answer(read: &Read, tables: &Tables, identity: &Identity) -> Result<String, Error> {
    let table = |name: &String| tables.tables.get(name).ok_or_else(|| Error::no_table(name));
    let of_items = |name: &String| tables.tables.get(name).ok_or_else(Error::no_resource);
    match read {
        Read::DescribeTable { table: name } => {
            Ok(format!("{{\"Table\":{}}}", describe::table(name, table(name)?, identity)))
        }
        Read::DescribeContinuousBackups { table: name } => Ok(describe::backups(table(name)?)),
        Read::ListTables { after, limit } => Ok(list(tables, after.as_deref(), *limit)),
        Read::GetItem { table, key, names } => get(of_items(table)?, key, names.as_deref()),
        Read::Scan(page) => scan(of_items(&page.table)?, page),
        Read::Query { page, index, key, forward } => {
            query(of_items(&page.table)?, page, index.as_deref(), key, *forward)
        }
    }
}

fn list(tables: &Tables, after: Option<&str>, limit: usize) -> String {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut names = tables.tables.range::<str, _>((from, Bound::Unbounded)).map(|(name, _)| name.as_str());
    let shown: Vec<&str> = names.by_ref().take(limit).collect();
    let last = shown.last().filter(|_| names.next().is_some());
    let last = last.map_or(String::new(), |name| format!(",\"LastEvaluatedTableName\":\"{name}\""));
    format!("{{\"TableNames\":{}{last}}}", serde_json::Value::from(shown))
}

fn get(table: &Table, key: &Item, names: Option<&[String]>) -> Result<String, Error> {
    let key = key_alone(&table.definition.key, key)?.to_json();
    Ok(match (table.items.get(&key), names) {
        (None, _) => "{}".to_string(),
        (Some(item), None) => format!("{{\"Item\":{item}}}"),
        (Some(item), Some(names)) => format!("{{\"Item\":{}}}", item_to_json(&projected(parse_stored(item)?, names))),
    })
}

fn projected(item: Item, names: &[String]) -> Item {
    item.into_iter().filter(|(name, _)| names.contains(name)).collect()
}

/// An answer that is being gathered.
struct Gathered<'a> {
    page: &'a Page,
    items: String,
    count: usize,
    scanned: usize,
    bytes: usize,
}

impl<'a> Gathered<'a> {
    fn new(page: &'a Page) -> Gathered<'a> {
        Gathered { page, items: String::new(), count: 0, scanned: 0, bytes: 0 }
    }

    /// Whether no more may be looked at: one item always may.
    fn is_full(&self) -> bool {
        self.scanned >= self.page.limit || self.bytes >= PAGE_BYTES_MAX
    }

    /// Looks at an item. `shown`: the names that an index shows of it.
    fn look(&mut self, text: &str, shown: Option<&BTreeSet<&str>>) -> Result<(), Error> {
        self.scanned += 1;
        self.bytes += text.len();
        let page = self.page;
        let as_stored = page.filter.is_none() && page.names.is_none() && shown.is_none();
        let written;
        let item = match as_stored {
            true => text,
            false => {
                let mut item = parse_stored(text)?;
                if let Some(shown) = shown {
                    item.retain(|name, _| shown.contains(name.as_str()));
                }
                if !holds(page.filter.as_ref(), &item) {
                    return Ok(());
                }
                written = item_to_json(&match &page.names {
                    Some(names) => projected(item, names),
                    None => item,
                });
                &written
            }
        };
        self.count += 1;
        if !page.counts {
            if !self.items.is_empty() {
                self.items.push(',');
            }
            self.items.push_str(item);
        }
        Ok(())
    }

    /// `last`: JSON of the key to go on behind, where there is more.
    fn body(self, last: Option<String>) -> String {
        let items = if self.page.counts { String::new() } else { format!("\"Items\":[{}],", self.items) };
        let last = last.map_or(String::new(), |key| format!(",\"LastEvaluatedKey\":{key}"));
        format!("{{{items}\"Count\":{},\"ScannedCount\":{}{last}}}", self.count, self.scanned)
    }
}

fn scan(table: &Table, page: &Page) -> Result<String, Error> {
    let part = &table.definition.key;
    let after = page.after.as_ref().map(|key| key_alone(part, key).map(Value::to_json)).transpose()?;
    let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let (segment, total) = page.segment;
    let mut gathered = Gathered::new(page);
    let mut last = None;
    for (key, item) in table.items.range::<str, _>((from, Bound::Unbounded)) {
        if segment_of(key, total) != segment {
            continue;
        }
        if gathered.is_full() {
            return Ok(gathered.body(last.map(|key: &String| key_json(part, key))));
        }
        gathered.look(item, None)?;
        last = Some(key);
    }
    Ok(gathered.body(None))
}

/// In which of `total` parts of a table a key is.
fn segment_of(key: &str, total: u32) -> u32 {
    let hash =
        key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ byte as u64).wrapping_mul(0x100_0000_01b3));
    ((hash ^ hash >> 32) % total as u64) as u32
}

/// The key of a table whose value has this JSON.
fn key_json(part: &KeyPart, key: &str) -> String {
    let mut out = "{".to_string();
    write_text(&part.name, &mut out);
    out.push(':');
    out.push_str(key);
    out.push('}');
    out
}

/// The value that an equality gives to the hash key; all else must be about the range key.
fn hash_value<'a>(key: &'a Condition, hash: &KeyPart, range: Option<&KeyPart>) -> Result<&'a Value, Error> {
    let mut found = None;
    for condition in key.all() {
        match condition.on_attribute() {
            Some((name, Some(value))) if name == hash.name => found = Some(value),
            Some((name, _)) if range.is_some_and(|range| range.name == name) => {}
            Some((name, _)) if name != hash.name => {
                return Err(Error::validation(format!("Query condition missed key schema element: {}", hash.name)));
            }
            _ => return Err(Error::validation("Query key condition not supported")),
        }
    }
    let missed = || Error::validation(format!("Query condition missed key schema element: {}", hash.name));
    let value = found.ok_or_else(missed)?;
    match hash.kind.is_of(value) {
        true => Ok(value),
        false => Err(Error::validation(
            "One or more parameter values were invalid: Condition parameter type does not match schema type",
        )),
    }
}

fn query(table: &Table, page: &Page, index: Option<&str>, key: &Condition, forward: bool) -> Result<String, Error> {
    let Some(name) = index else { return query_table(table, page, key) };
    let found = table.definition.indexes.iter().position(|index| index.name == name);
    let at = found.ok_or_else(|| Error::validation(format!("The table does not have the specified index: {name}")))?;
    query_index(table, page, at, key, forward)
}

/// By the table's own key, which one item has.
fn query_table(table: &Table, page: &Page, key: &Condition) -> Result<String, Error> {
    let value = hash_value(key, &table.definition.key, None)?;
    let mut gathered = Gathered::new(page);
    let item = table.items.get(&value.to_json()).filter(|_| page.after.is_none());
    item.map(|item| gathered.look(item, None)).transpose()?;
    Ok(gathered.body(None))
}

/// Where an item stands among those of one hash value: by the range key, then by the table's.
type Place<'a> = (Option<Value>, &'a str);

fn by_place(a: &Place<'_>, b: &Place<'_>) -> Ordering {
    let range = match (&a.0, &b.0) {
        (Some(a), Some(b)) => order(a, b).unwrap_or(Ordering::Equal),
        _ => Ordering::Equal,
    };
    range.then_with(|| a.1.cmp(b.1))
}

fn query_index(table: &Table, page: &Page, at: usize, key: &Condition, forward: bool) -> Result<String, Error> {
    let index = &table.definition.indexes[at];
    let value = hash_value(key, &index.hash, index.range.as_ref())?;
    let shown = shown(index, &table.definition.key);
    let after = page.after.as_ref().map(|start| start_of(table, index, value, start)).transpose()?;
    let after = after.as_ref().map(|(range, key)| (range.clone(), key.as_str()));
    let is_later = |place: &Place<'_>| match &after {
        Some(after) if forward => by_place(place, after).is_gt(),
        Some(after) => by_place(place, after).is_lt(),
        None => true,
    };
    let mut places: Vec<(Place<'_>, &String)> = Vec::new();
    for key_text in table.lookups[at].get(&value.to_json()).into_iter().flatten() {
        let Some(text) = table.items.get(key_text) else { continue };
        let range = range_value(table, index, key_text, text)?;
        let place = (range, key_text.as_str());
        if !is_later(&place) || !range_holds(key, index, value, &place) {
            continue;
        }
        places.push((place, text));
    }
    places.sort_by(|(a, _), (b, _)| if forward { by_place(a, b) } else { by_place(b, a) });
    let mut gathered = Gathered::new(page);
    let mut last: Option<&Place<'_>> = None;
    for (place, text) in &places {
        if gathered.is_full() {
            return Ok(gathered.body(last.map(|place| last_key(table, index, value, place))));
        }
        gathered.look(text, shown.as_ref())?;
        last = Some(place);
    }
    Ok(gathered.body(None))
}

/// The range key of an item. Where it is the table's key, which is the client library's case, nothing is parsed but that.
fn range_value(table: &Table, index: &Index, key: &str, item: &str) -> Result<Option<Value>, Error> {
    let Some(part) = &index.range else { return Ok(None) };
    match part.name == table.definition.key.name {
        true => {
            let json: Option<serde_json::Value> = serde_json::from_str(key).ok();
            json.map(|json| Value::read(&json, 0)).transpose()
        }
        false => Ok(parse_stored(item)?.remove(&part.name)),
    }
}

fn range_holds(key: &Condition, index: &Index, hash: &Value, place: &Place<'_>) -> bool {
    let mut item = Item::from([(index.hash.name.clone(), hash.clone())]);
    if let (Some(part), Some(value)) = (&index.range, &place.0) {
        item.insert(part.name.clone(), value.clone());
    }
    key.holds(&item)
}

/// The names that an index shows; `None`: all.
fn shown<'a>(index: &'a Index, key: &'a KeyPart) -> Option<BTreeSet<&'a str>> {
    let keys = [&key.name, &index.hash.name].into_iter().chain(index.range.as_ref().map(|part| &part.name));
    let keys = keys.map(String::as_str);
    match &index.projection {
        Projection::All => None,
        Projection::KeysOnly => Some(keys.collect()),
        Projection::Include(names) => Some(keys.chain(names.iter().map(String::as_str)).collect()),
    }
}

/// The place that an ExclusiveStartKey names.
fn start_of(table: &Table, index: &Index, hash: &Value, start: &Item) -> Result<(Option<Value>, String), Error> {
    let wrong = || Error::validation("The provided starting key is invalid");
    let key = start.get(&table.definition.key.name).filter(|value| table.definition.key.kind.is_of(value));
    let range = index.range.as_ref().map(|part| start.get(&part.name).filter(|value| part.kind.is_of(value)));
    let range = range.map(|range| range.cloned().ok_or_else(wrong)).transpose()?;
    if start.get(&index.hash.name) != Some(hash) {
        return Err(wrong());
    }
    Ok((range, key.ok_or_else(wrong)?.to_json()))
}

fn last_key(table: &Table, index: &Index, hash: &Value, (range, key): &Place<'_>) -> String {
    let mut members = vec![(table.definition.key.name.as_str(), key.to_string())];
    members.push((&index.hash.name, hash.to_json()));
    if let (Some(part), Some(value)) = (&index.range, range) {
        members.push((&part.name, value.to_json()));
    }
    // The range key of one index may be the table's key.
    members.sort();
    members.dedup_by(|a, b| a.0 == b.0);
    let members: Vec<String> =
        members.into_iter().map(|(name, value)| format!("{}:{value}", serde_json::Value::from(name))).collect();
    format!("{{{}}}", members.join(","))
}
