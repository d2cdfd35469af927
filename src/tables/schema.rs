//! Keys, indexes and settings of tables, as CreateTable and UpdateTable ask for them.

use super::error::Error;
use super::limits::INDEXES_MAX;
use super::members::{Members, violation};
use super::request::table_name;
use super::state::{Index, KeyPart, Projection, Scalar};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// A table that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTable {
    pub table: String,
    pub key: KeyPart,
    pub indexes: Vec<Index>,
    pub provisioned: Option<(u64, u64)>,
    pub protected: bool,
}

/// What is to become another; `None`: stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableUpdate {
    pub table: String,
    pub add: Vec<Index>,
    pub remove: Vec<String>,
    pub billing: Option<Option<(u64, u64)>>,
    pub protected: Option<bool>,
}

fn invalid(text: impl std::fmt::Display) -> Error {
    Error::validation(format!("One or more parameter values were invalid: {text}"))
}

pub fn create(request: &Members<'_>) -> Result<NewTable, Error> {
    let table = table_name(request)?;
    request.none_of(&["LocalSecondaryIndexes", "ResourcePolicy", "GlobalTableSourceArn"])?;
    if request.members("StreamSpecification")?.is_some_and(|it| it.truth("StreamEnabled") != Ok(Some(false))) {
        return Err(Error::beyond("StreamSpecification"));
    }
    let attributes = attributes(request)?;
    let (key, range) = key_schema(request, &attributes)?;
    if range.is_some() {
        return Err(Error::beyond("A table with a RANGE key"));
    }
    let list = request.list("GlobalSecondaryIndexes")?.unwrap_or_default();
    let indexes: Vec<Index> = list.iter().map(|json| index(json, &attributes)).collect::<Result<_, _>>()?;
    check_indexes(&indexes)?;
    let mut used: Vec<&str> = vec![&key.name];
    for index in &indexes {
        used.push(&index.hash.name);
        used.extend(index.range.as_ref().map(|part| part.name.as_str()));
    }
    if let Some(name) = attributes.keys().find(|name| !used.contains(&name.as_str())) {
        let text =
            format!("Some AttributeDefinitions are not used. AttributeDefinitions: [{name}], keys used: {used:?}");
        return Err(invalid(text));
    }
    Ok(NewTable {
        table,
        key,
        provisioned: billing(request)?.unwrap_or(None),
        protected: request.truth("DeletionProtectionEnabled")?.unwrap_or(false),
        indexes,
    })
}

pub fn update(request: &Members<'_>) -> Result<TableUpdate, Error> {
    let table = table_name(request)?;
    request.none_of(&["StreamSpecification", "ReplicaUpdates", "GlobalTableWitnessUpdates"])?;
    let attributes = attributes(request)?;
    let (mut add, mut remove) = (Vec::new(), Vec::new());
    for json in request.list("GlobalSecondaryIndexUpdates")?.unwrap_or_default() {
        let update = Members::of(json, "GlobalSecondaryIndexUpdates")?;
        if let Some(json) = update.json("Create") {
            add.push(index(json, &attributes)?);
        }
        if let Some(delete) = update.members("Delete")? {
            remove.push(delete.wanted("IndexName", delete.text("IndexName")?)?.to_string());
        }
        // Capacity of an index: told nowhere, so there is nothing to do.
    }
    check_indexes(&add)?;
    let billing = billing(request)?;
    let protected = request.truth("DeletionProtectionEnabled")?;
    if add.is_empty() && remove.is_empty() && billing.is_none() && protected.is_none() {
        let text = "At least one of ProvisionedThroughput, BillingMode, UpdateStreamEnabled, GlobalSecondaryIndexUpdates or \
                    SSESpecification or ReplicaUpdates is required";
        return Err(Error::validation(text));
    }
    Ok(TableUpdate { table, add, remove, billing, protected })
}

/// `AttributeDefinitions`.
fn attributes(request: &Members<'_>) -> Result<BTreeMap<String, Scalar>, Error> {
    let mut attributes = BTreeMap::new();
    for json in request.list("AttributeDefinitions")?.unwrap_or_default() {
        let definition = Members::of(json, "AttributeDefinitions")?;
        let name = definition.wanted("AttributeName", definition.text("AttributeName")?)?;
        if name.is_empty() || name.len() > 255 {
            return Err(violation(name, "AttributeName", "Member must have length between 1 and 255"));
        }
        let kind = match definition.word("AttributeType", &["B", "N", "S"])? {
            Some("B") => Scalar::B,
            Some("N") => Scalar::N,
            kind => definition.wanted("AttributeType", kind).map(|_| Scalar::S)?,
        };
        attributes.insert(name.to_string(), kind);
    }
    Ok(attributes)
}

/// `KeySchema`: the HASH part, then the RANGE part.
fn key_schema(
    members: &Members<'_>,
    attributes: &BTreeMap<String, Scalar>,
) -> Result<(KeyPart, Option<KeyPart>), Error> {
    let list = members.wanted("KeySchema", members.list("KeySchema")?)?;
    let mut parts = Vec::new();
    for json in list {
        let element = Members::of(json, "KeySchema")?;
        let name = element.wanted("AttributeName", element.text("AttributeName")?)?;
        let role = element.wanted("KeyType", element.word("KeyType", &["HASH", "RANGE"])?)?;
        let Some(kind) = attributes.get(name) else {
            let text = format!("Some index key attributes are not defined in AttributeDefinitions. Keys: [{name}]");
            return Err(invalid(text));
        };
        parts.push((role, KeyPart { name: name.to_string(), kind: *kind }));
    }
    let mut parts = parts.into_iter();
    match (parts.next(), parts.next(), parts.next()) {
        (Some(("HASH", hash)), None, None) => Ok((hash, None)),
        (Some(("HASH", hash)), Some(("RANGE", range)), None) if hash.name != range.name => Ok((hash, Some(range))),
        _ => Err(invalid("Invalid KeySchema: one HASH key is needed first, and one RANGE key may follow")),
    }
}

fn index(json: &Json, attributes: &BTreeMap<String, Scalar>) -> Result<Index, Error> {
    let members = Members::of(json, "GlobalSecondaryIndexes")?;
    let name = members.wanted("IndexName", members.text("IndexName")?)?;
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !(3..=255).contains(&name.len()) || !name.bytes().all(is_part) {
        let constraint = "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]{3,255}";
        return Err(violation(name, "IndexName", constraint));
    }
    let (hash, range) = key_schema(&members, attributes)?;
    let projection = members.wanted("Projection", members.members("Projection")?)?;
    let projection = match projection.word("ProjectionType", &["ALL", "INCLUDE", "KEYS_ONLY"])? {
        Some("ALL") => Projection::All,
        Some("KEYS_ONLY") => Projection::KeysOnly,
        Some(_) => {
            let list = projection.wanted("NonKeyAttributes", projection.list("NonKeyAttributes")?)?;
            let names: Option<Vec<String>> = list.iter().map(|json| json.as_str().map(str::to_string)).collect();
            let names = names.filter(|names| (1..=20).contains(&names.len()));
            Projection::Include(names.ok_or_else(|| invalid("NonKeyAttributes must be 1 to 20 names"))?)
        }
        None => return Err(invalid("Unknown ProjectionType: null")),
    };
    Ok(Index { name: name.to_string(), hash, range, projection })
}

fn check_indexes(indexes: &[Index]) -> Result<(), Error> {
    if indexes.len() > INDEXES_MAX {
        return Err(invalid(format!("a table has {INDEXES_MAX} indexes at most")));
    }
    match indexes.iter().enumerate().find(|(at, index)| indexes[..*at].iter().any(|other| other.name == index.name)) {
        Some((_, index)) => Err(invalid(format!("Duplicate index name: {}", index.name))),
        None => Ok(()),
    }
}

/// `BillingMode` and `ProvisionedThroughput`; `None`: neither is there.
fn billing(request: &Members<'_>) -> Result<Option<Option<(u64, u64)>>, Error> {
    let mode = request.word("BillingMode", &["PROVISIONED", "PAY_PER_REQUEST"])?;
    let throughput = request.members("ProvisionedThroughput")?;
    let units = |members: &Members<'_>, name: &str| {
        let units = members.wanted(name, members.number(name)?)?;
        match units {
            1.. => Ok(units as u64),
            _ => Err(violation(&units.to_string(), name, "Member must have value greater than or equal to 1")),
        }
    };
    match (mode, throughput) {
        (Some("PAY_PER_REQUEST"), Some(throughput)) => {
            // Zeros come from clients that write what DescribeTable has told them.
            match (throughput.number("ReadCapacityUnits")?, throughput.number("WriteCapacityUnits")?) {
                (None | Some(0), None | Some(0)) => Ok(Some(None)),
                _ => Err(invalid(
                    "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST",
                )),
            }
        }
        (Some("PAY_PER_REQUEST"), None) => Ok(Some(None)),
        (_, Some(throughput)) => {
            let read = units(&throughput, "ReadCapacityUnits")?;
            Ok(Some(Some((read, units(&throughput, "WriteCapacityUnits")?))))
        }
        (Some(_), None) => Err(invalid(
            "ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED",
        )),
        (None, None) => Ok(None),
    }
}
