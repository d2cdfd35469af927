//! Tables and their items, as the catalog stores them, and what a change does to them.
//!
//! Applying is deterministic and total, as with all that is stored (see `catalog::change`): what does not fit alters nothing.

use super::item::{self, Value};
use crate::io::clock::Wall;
use rkyv::with::Skip;
use rkyv::{Archive, Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The type of a key.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    S,
    N,
    B,
}

impl Scalar {
    pub const fn name(self) -> &'static str {
        match self {
            Scalar::S => "S",
            Scalar::N => "N",
            Scalar::B => "B",
        }
    }

    pub fn is_of(self, value: &Value) -> bool {
        value.type_name() == self.name()
    }
}

/// An attribute that is part of a key.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct KeyPart {
    pub name: String,
    pub kind: Scalar,
}

/// What of an item an index shows.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum Projection {
    All,
    KeysOnly,
    Include(Vec<String>),
}

/// Items by an attribute that is not their key.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Index {
    pub name: String,
    pub hash: KeyPart,
    pub range: Option<KeyPart>,
    pub projection: Projection,
}

/// All of a table but its items.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    pub created: Wall,
    pub key: KeyPart,
    pub indexes: Vec<Index>,
    /// Capacity units to read and write, which are told and mean nothing; `None`: PAY_PER_REQUEST.
    pub provisioned: Option<(u64, u64)>,
    pub protected: bool,
    /// What UpdateContinuousBackups was last told.
    pub backups: bool,
}

/// Keys of items by the value of an index's attribute, both as JSON.
type Lookup = BTreeMap<String, BTreeSet<String>>;

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub definition: Definition,
    /// As JSON, by the JSON of the key's value.
    pub items: BTreeMap<String, String>,
    /// Derived: what [`Table::cost`] adds up to.
    #[rkyv(with = Skip)]
    pub bytes: u64,
    /// Derived, one for each index.
    #[rkyv(with = Skip)]
    pub lookups: Vec<Lookup>,
}

/// Every table, by name.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    pub tables: BTreeMap<String, Table>,
}

/// One step of what a request changes; the catalog's change has all steps of one request, so they are durable together.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub enum TableChange {
    /// A table is made, or its definition becomes another.
    Define {
        table: String,
        definition: Definition,
    },
    Drop {
        table: String,
    },
    /// `key` and `item` as they are stored.
    Put {
        table: String,
        key: String,
        item: String,
    },
    Remove {
        table: String,
        key: String,
    },
}

/// What a table without items, and an item, take of the catalog's reserve at most, their texts aside.
const TABLE_COST: u64 = 1024;
const INDEX_COST: u64 = 512;
const ITEM_COST: u64 = 128;
/// Items are counted in whole steps, so that a counter that gets another digit asks for no more room.
const ITEM_STEP: u64 = 64;

/// What an item takes of the reserve.
pub fn item_cost(key: &str, item: &str) -> u64 {
    ITEM_COST + (key.len() as u64 + item.len() as u64).next_multiple_of(ITEM_STEP)
}

/// What a table without items takes of the reserve.
pub fn definition_cost(name: &str, definition: &Definition) -> u64 {
    let of_index = |index: &Index| {
        let included = match &index.projection {
            Projection::Include(names) => names.iter().map(|name| 64 + name.len()).sum(),
            Projection::All | Projection::KeysOnly => 0,
        };
        let range = index.range.as_ref().map_or(0, |part| part.name.len());
        INDEX_COST + (index.name.len() + index.hash.name.len() + range + included) as u64
    };
    let texts = name.len() + definition.key.name.len();
    TABLE_COST + texts as u64 + definition.indexes.iter().map(of_index).sum::<u64>()
}

impl Tables {
    pub fn apply(&mut self, change: &TableChange) {
        match change {
            TableChange::Define { table, definition } => {
                let of = self.tables.entry(table.clone()).or_insert_with(|| Table::new(definition.clone()));
                of.definition = definition.clone();
                of.derive();
            }
            TableChange::Drop { table } => drop(self.tables.remove(table)),
            TableChange::Put { table, key, item } => {
                if let Some(table) = self.tables.get_mut(table) {
                    table.put(key, item);
                }
            }
            TableChange::Remove { table, key } => {
                if let Some(table) = self.tables.get_mut(table) {
                    table.remove(key);
                }
            }
        }
    }

    /// Bytes that a snapshot needs for all of it, at most.
    pub fn need(&self) -> u64 {
        self.tables.iter().map(|(name, table)| definition_cost(name, &table.definition) + table.bytes).sum()
    }

    /// Computes what is derived: after a snapshot has been read.
    pub fn derive(&mut self) {
        self.tables.values_mut().for_each(Table::derive);
    }
}

impl Table {
    fn new(definition: Definition) -> Table {
        Table { definition, items: BTreeMap::new(), bytes: 0, lookups: Vec::new() }
    }

    fn derive(&mut self) {
        self.bytes = self.items.iter().map(|(key, item)| item_cost(key, item)).sum();
        self.lookups = vec![Lookup::new(); self.definition.indexes.len()];
        if self.lookups.is_empty() {
            return;
        }
        for (key, item) in &self.items {
            note(&mut self.lookups, &self.definition.indexes, key, item);
        }
    }

    fn put(&mut self, key: &str, item: &str) {
        self.remove(key);
        self.bytes += item_cost(key, item);
        note(&mut self.lookups, &self.definition.indexes, key, item);
        self.items.insert(key.to_string(), item.to_string());
    }

    fn remove(&mut self, key: &str) {
        let Some(old) = self.items.remove(key) else { return };
        self.bytes -= item_cost(key, &old);
        for (index, value) in indexed(&self.definition.indexes, &old) {
            if let Some(keys) = self.lookups[index].get_mut(&value) {
                keys.remove(key);
                if keys.is_empty() {
                    self.lookups[index].remove(&value);
                }
            }
        }
    }

    /// Bytes of the items as they were sent, for `TableSizeBytes`.
    pub fn size(&self) -> u64 {
        self.items.values().map(|item| item.len() as u64).sum()
    }
}

fn note(lookups: &mut [Lookup], indexes: &[Index], key: &str, item: &str) {
    for (index, value) in indexed(indexes, item) {
        lookups[index].entry(value).or_default().insert(key.to_string());
    }
}

/// By which values the indexes have an item: an index passes over one that lacks a part of the index's key.
fn indexed(indexes: &[Index], item: &str) -> Vec<(usize, String)> {
    if indexes.is_empty() {
        return Vec::new();
    }
    let item = item::parse_stored(item).unwrap_or_default();
    let has = |part: &KeyPart| item.get(&part.name).filter(|value| part.kind.is_of(value));
    let value = |(at, index): (usize, &Index)| {
        let range = index.range.as_ref().is_none_or(|part| has(part).is_some());
        has(&index.hash).filter(|_| range).map(|value| (at, value.to_json()))
    };
    indexes.iter().enumerate().filter_map(value).collect()
}
