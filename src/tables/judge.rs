//! Writes judged: which changes they make of the tables, and what is answered when those are durable.

use super::describe;
use super::error::{Error, Kind};
use super::item::{Item, Value, item_to_json, parse_stored};
use super::legacy::holds;
use super::limits::{
    INDEXES_MAX, ITEM_BYTES_MAX, KEY_BYTES_MAX, PAGE_BYTES_MAX, TABLES_BYTES_MAX, TABLES_MAX, TRANSACTION_BYTES_MAX,
};
use super::request::{Deed, ItemWrite, Returned, Write};
use super::schema::{NewTable, TableUpdate};
use super::state::{Definition, Index, KeyPart, Scalar, Table, TableChange, Tables, definition_cost, item_cost};
use super::update;
use crate::catalog::identity::Identity;
use crate::io::clock::Wall;
use std::collections::BTreeSet;

/// What a write comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Made durable as one.
    pub changes: Vec<TableChange>,
    /// What they add to [`Tables::need`] at most.
    pub growth: u64,
    /// JSON.
    pub body: String,
}

/// The tables that a write is judged by, and who answers.
#[derive(Clone, Copy)]
pub struct Judge<'a> {
    pub tables: &'a Tables,
    pub identity: &'a Identity,
    pub now: Wall,
}

impl Judge<'_> {
    pub fn judge(&self, write: &Write) -> Result<Judged, Error> {
        let judged = match write {
            Write::CreateTable(new) => self.create(new)?,
            Write::UpdateTable(update) => self.update(update)?,
            Write::DeleteTable { table } => self.delete(table)?,
            Write::UpdateContinuousBackups { table, enabled } => {
                let of = self.table(table)?;
                let definition = Definition { backups: *enabled, ..of.definition.clone() };
                let body = describe::backups(&Table { definition: definition.clone(), ..bare(of) });
                self.define(table, definition, body)
            }
            Write::Item(write) => self.item(write)?,
            Write::Transaction(writes) => self.transaction(writes)?,
        };
        if judged.growth > 0 && self.tables.need() + judged.growth > TABLES_BYTES_MAX {
            let text = format!("All tables together have {TABLES_BYTES_MAX} bytes at most, and these would have more");
            return Err(Error::new(Kind::LimitExceeded, text));
        }
        Ok(judged)
    }

    fn table(&self, name: &str) -> Result<&Table, Error> {
        self.tables.tables.get(name).ok_or_else(|| Error::no_table(name))
    }

    /// Gives a table a definition; growth is that of a definition where there was none, or a smaller one.
    fn define(&self, name: &str, definition: Definition, body: String) -> Judged {
        let old = self.tables.tables.get(name).map_or(0, |table| definition_cost(name, &table.definition));
        let growth = definition_cost(name, &definition).saturating_sub(old);
        Judged { changes: vec![TableChange::Define { table: name.to_string(), definition }], growth, body }
    }

    /// The description of a table as it will be.
    fn described(&self, name: &str, table: &Table) -> String {
        format!("{{\"TableDescription\":{}}}", describe::table(name, table, self.identity))
    }

    fn create(&self, new: &NewTable) -> Result<Judged, Error> {
        if self.tables.tables.contains_key(&new.table) {
            return Err(Error::new(Kind::ResourceInUse, format!("Table already exists: {}", new.table)));
        }
        if self.tables.tables.len() >= TABLES_MAX {
            let text = format!("This server has {TABLES_MAX} tables at most");
            return Err(Error::new(Kind::LimitExceeded, text));
        }
        let definition = Definition {
            created: self.now,
            key: new.key.clone(),
            indexes: new.indexes.clone(),
            provisioned: new.provisioned,
            protected: new.protected,
            backups: false,
        };
        let mut after = Tables::default();
        after.apply(&TableChange::Define { table: new.table.clone(), definition: definition.clone() });
        let body = self.described(&new.table, &after.tables[&new.table]);
        Ok(self.define(&new.table, definition, body))
    }

    fn update(&self, update: &TableUpdate) -> Result<Judged, Error> {
        let name = &update.table;
        let table = self.table(name)?;
        let mut definition = table.definition.clone();
        for index in &update.remove {
            let before = definition.indexes.len();
            definition.indexes.retain(|of| of.name != *index);
            if definition.indexes.len() == before {
                let text = format!("Requested resource not found: Index: {index} not found");
                return Err(Error::new(Kind::ResourceNotFound, text));
            }
        }
        for index in &update.add {
            match definition.indexes.iter().find(|of| of.name == index.name) {
                // Workers of the client library that start at once all ask for it, and one that is refused never takes a lease.
                Some(there) if there == index => continue,
                Some(_) => {
                    let text = format!("Attempting to create an index which already exists: {}", index.name);
                    return Err(Error::validation(text));
                }
                None => {}
            }
            let part = std::iter::once(&index.hash).chain(&index.range).find(|part| part.name == definition.key.name);
            if part.is_some_and(|part| part.kind != definition.key.kind) {
                return Err(Error::validation("Cannot change type of attribute definition of the table's key"));
            }
            definition.indexes.push(index.clone());
        }
        if definition.indexes.len() > INDEXES_MAX {
            let text = format!("A table has {INDEXES_MAX} indexes at most");
            return Err(Error::new(Kind::LimitExceeded, text));
        }
        definition.provisioned = update.billing.unwrap_or(definition.provisioned);
        definition.protected = update.protected.unwrap_or(definition.protected);
        let mut after = Tables { tables: [(name.clone(), table.clone())].into() };
        after.apply(&TableChange::Define { table: name.clone(), definition: definition.clone() });
        let body = self.described(name, &after.tables[name]);
        Ok(self.define(name, definition, body))
    }

    fn delete(&self, name: &str) -> Result<Judged, Error> {
        let table = self.table(name)?;
        if table.definition.protected {
            let text = "Resource cannot be deleted as it is currently protected against deletion. Disable deletion protection first.";
            return Err(Error::validation(text));
        }
        let body = self.described(name, table).replacen("\"ACTIVE\"", "\"DELETING\"", 1);
        let changes = vec![TableChange::Drop { table: name.to_string() }];
        Ok(Judged { changes, growth: 0, body })
    }

    fn item(&self, write: &ItemWrite) -> Result<Judged, Error> {
        let outcome = self.outcome(write)?;
        if !outcome.holds {
            return Err(Error {
                beside: match (write.returned_on_failure, &outcome.old) {
                    (true, Some(old)) => format!(",\"Item\":{}", item_to_json(old)),
                    _ => String::new(),
                },
                ..Error::conditional_check_failed()
            });
        }
        let body = match outcome.returned(write) {
            Some(item) => format!("{{\"Attributes\":{}}}", item_to_json(&item)),
            None => "{}".to_string(),
        };
        let (change, growth) = outcome.change;
        Ok(Judged { changes: change.into_iter().collect(), growth, body })
    }

    fn transaction(&self, writes: &[ItemWrite]) -> Result<Judged, Error> {
        let mut keys = BTreeSet::new();
        let mut judged = Judged { body: "{}".to_string(), ..Judged::default() };
        let (mut reasons, mut codes) = (Vec::new(), Vec::new());
        let (mut bytes, mut shown) = (0, 0);
        for write in writes {
            let outcome = self.outcome(write)?;
            if !keys.insert((&write.table, outcome.key.clone())) {
                return Err(Error::validation("Transaction request cannot include multiple operations on one item"));
            }
            match outcome.holds {
                true => {
                    codes.push("None");
                    reasons.push("{\"Code\":\"None\"}".to_string());
                    let (change, growth) = outcome.change;
                    bytes += change.as_ref().map_or(0, bytes_of);
                    judged.changes.extend(change);
                    judged.growth += growth;
                }
                false => {
                    codes.push("ConditionalCheckFailed");
                    let item = outcome.old.filter(|_| write.returned_on_failure);
                    let item = item.map_or(String::new(), |item| format!(",\"Item\":{}", item_to_json(&item)));
                    shown += item.len();
                    // An answer has its bound, too: items beyond it are left out.
                    let item = if shown <= PAGE_BYTES_MAX { item } else { String::new() };
                    let text = "The conditional request failed";
                    reasons.push(format!("{{\"Code\":\"ConditionalCheckFailed\",\"Message\":\"{text}\"{item}}}"));
                }
            }
        }
        if codes.iter().any(|code| *code != "None") {
            let text = format!(
                "Transaction cancelled, please refer cancellation reasons for specific reasons [{}]",
                codes.join(", ")
            );
            let beside = format!(",\"CancellationReasons\":[{}]", reasons.join(","));
            return Err(Error { beside, ..Error::new(Kind::TransactionCanceled, text) });
        }
        if bytes > TRANSACTION_BYTES_MAX {
            let text =
                format!("A transaction writes {TRANSACTION_BYTES_MAX} bytes at most, and this one would write {bytes}");
            return Err(Error::new(Kind::LimitExceeded, text));
        }
        Ok(judged)
    }

    /// What a write of one item does, if its condition holds.
    fn outcome(&self, write: &ItemWrite) -> Result<Outcome, Error> {
        let table = self.tables.tables.get(&write.table).ok_or_else(Error::no_resource)?;
        let part = &table.definition.key;
        let value = match &write.deed {
            Deed::Put(item) => key_of_item(part, item)?,
            _ => key_alone(part, &write.key)?,
        };
        let key = value.to_json();
        let stored = table.items.get(&key);
        let old = stored.map(|text| parse_stored(text)).transpose()?;
        let nothing = Item::new();
        let before = old.as_ref().unwrap_or(&nothing);
        let mut outcome = Outcome { key, holds: true, change: (None, 0), new: None, old: old.clone() };
        outcome.holds = holds(write.condition.as_ref(), before);
        if !outcome.holds {
            return Ok(outcome);
        }
        let new = match &write.deed {
            Deed::Put(item) => Some(item.clone()),
            Deed::Update(update) => {
                if update.contains_key(&part.name) {
                    let text = format!("Cannot update attribute {}. This attribute is part of the key", part.name);
                    return Err(invalid(text));
                }
                let mut new = update::updated(before, update)?;
                new.insert(part.name.clone(), value.clone());
                Some(new)
            }
            Deed::Delete => None,
            Deed::Check => return Ok(outcome),
        };
        let table_name = write.table.clone();
        outcome.change = match &new {
            Some(new) => {
                check_index_keys(&table.definition.indexes, new)?;
                let text = item_to_json(new);
                if text.len() > ITEM_BYTES_MAX {
                    let text = format!("Item size has exceeded the maximum allowed size of {ITEM_BYTES_MAX} bytes");
                    return Err(Error::validation(text));
                }
                let before = stored.map_or(0, |old| item_cost(&outcome.key, old));
                let growth = item_cost(&outcome.key, &text).saturating_sub(before);
                (Some(TableChange::Put { table: table_name, key: outcome.key.clone(), item: text }), growth)
            }
            None if old.is_none() => (None, 0),
            None => (Some(TableChange::Remove { table: table_name, key: outcome.key.clone() }), 0),
        };
        outcome.new = new;
        Ok(outcome)
    }
}

struct Outcome {
    /// As it is stored.
    key: String,
    holds: bool,
    /// And its growth.
    change: (Option<TableChange>, u64),
    old: Option<Item>,
    new: Option<Item>,
}

impl Outcome {
    fn returned(&self, write: &ItemWrite) -> Option<Item> {
        let updated = |item: &Option<Item>| {
            let Deed::Update(update) = &write.deed else { return item.clone() };
            let item = item.as_ref()?;
            let named = item.iter().filter(|(name, _)| update.contains_key(*name));
            Some(named.map(|(name, value)| (name.clone(), value.clone())).collect::<Item>())
        };
        let item = match write.returned {
            Returned::Nothing => None,
            Returned::AllOld => self.old.clone(),
            Returned::AllNew => self.new.clone(),
            Returned::UpdatedOld => updated(&self.old),
            Returned::UpdatedNew => updated(&self.new),
        };
        item.filter(|item| !item.is_empty())
    }
}

fn bytes_of(change: &TableChange) -> usize {
    match change {
        TableChange::Put { table, key, item } => table.len() + key.len() + item.len() + 64,
        TableChange::Remove { table, key } => table.len() + key.len() + 64,
        TableChange::Define { .. } | TableChange::Drop { .. } => 0,
    }
}

/// A table without its items.
fn bare(table: &Table) -> Table {
    Table { definition: table.definition.clone(), items: Default::default(), bytes: 0, lookups: Vec::new() }
}

fn invalid(text: impl std::fmt::Display) -> Error {
    Error::validation(format!("One or more parameter values were invalid: {text}"))
}

/// The key within a whole item.
fn key_of_item<'a>(part: &KeyPart, item: &'a Item) -> Result<&'a Value, Error> {
    let name = &part.name;
    let value = item.get(name).ok_or_else(|| invalid(format!("Missing the key {name} in the item")))?;
    if !part.kind.is_of(value) {
        let (expected, actual) = (part.kind.name(), value.type_name());
        return Err(invalid(format!("Type mismatch for key {name} expected: {expected} actual: {actual}")));
    }
    check_key(name, value)?;
    Ok(value)
}

/// A key that stands by itself.
pub fn key_alone<'a>(part: &KeyPart, key: &'a Item) -> Result<&'a Value, Error> {
    let value = key.get(&part.name).filter(|value| key.len() == 1 && part.kind.is_of(value));
    let value = value.ok_or_else(|| Error::validation("The provided key element does not match the schema"))?;
    check_key(&part.name, value)?;
    Ok(value)
}

fn check_key(name: &str, value: &Value) -> Result<(), Error> {
    let len = match value {
        Value::S(text) => text.len(),
        Value::B(bytes) => bytes.len(),
        _ => 1,
    };
    match len {
        0 => {
            let kind = if matches!(value, Value::S(_)) { "string" } else { "binary" };
            let text = format!(
                "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty {kind} value. Key: {name}"
            );
            Err(Error::validation(text))
        }
        1..=KEY_BYTES_MAX => Ok(()),
        _ => Err(invalid(format!("Size of hashkey has exceeded the maximum size limit of{KEY_BYTES_MAX} bytes"))),
    }
}

/// What an index is by must be of its type where it is there.
fn check_index_keys(indexes: &[Index], item: &Item) -> Result<(), Error> {
    for index in indexes {
        for KeyPart { name, kind } in std::iter::once(&index.hash).chain(&index.range) {
            let Some(value) = item.get(name) else { continue };
            if !Scalar::is_of(*kind, value) {
                let (expected, actual) = (kind.name(), value.type_name());
                return Err(invalid(format!(
                    "Type mismatch for Index Key {name} Expected: {expected} Actual: {actual} IndexName: {}",
                    index.name
                )));
            }
        }
    }
    Ok(())
}
