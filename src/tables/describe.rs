//! What is told of a table.

use super::item::write_text;
use super::state::{Index, KeyPart, Projection, Table};
use crate::catalog::identity::Identity;
use std::collections::BTreeMap;
use std::fmt::Write;

pub fn table_arn(name: &str, identity: &Identity) -> String {
    format!("arn:aws:dynamodb:{}:{}:table/{name}", identity.region, identity.account)
}

/// A TableDescription.
pub fn table(name: &str, table: &Table, identity: &Identity) -> String {
    let definition = &table.definition;
    let arn = table_arn(name, identity);
    let mut out = format!(
        "{{\"TableName\":\"{name}\",\"TableStatus\":\"ACTIVE\",\"TableArn\":\"{arn}\",\"TableId\":\"{}\",\
         \"CreationDateTime\":{},\"TableSizeBytes\":{},\"ItemCount\":{},\"DeletionProtectionEnabled\":{},",
        table_id(name, definition.created.0),
        seconds(definition.created.0),
        table.size(),
        table.items.len(),
        definition.protected,
    );
    out.push_str("\"KeySchema\":");
    key_schema(&definition.key, None, &mut out);
    let mut attributes = BTreeMap::from([(definition.key.name.as_str(), definition.key.kind)]);
    for index in &definition.indexes {
        for part in std::iter::once(&index.hash).chain(&index.range) {
            attributes.insert(&part.name, part.kind);
        }
    }
    out.push_str(",\"AttributeDefinitions\":[");
    for (at, (name, kind)) in attributes.into_iter().enumerate() {
        out.push_str(if at > 0 { ",{\"AttributeName\":" } else { "{\"AttributeName\":" });
        write_text(name, &mut out);
        let _ = write!(out, ",\"AttributeType\":\"{}\"}}", kind.name());
    }
    out.push(']');
    if definition.provisioned.is_none() {
        let at = seconds(definition.created.0);
        let _ = write!(
            out,
            ",\"BillingModeSummary\":{{\"BillingMode\":\"PAY_PER_REQUEST\",\"LastUpdateToPayPerRequestDateTime\":{at}}}"
        );
    }
    throughput(definition.provisioned, &mut out);
    if !definition.indexes.is_empty() {
        out.push_str(",\"GlobalSecondaryIndexes\":[");
        for (at, of) in definition.indexes.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            index(at, of, table, &arn, &mut out);
        }
        out.push(']');
    }
    out.push('}');
    out
}

fn throughput(provisioned: Option<(u64, u64)>, out: &mut String) {
    let (read, write) = provisioned.unwrap_or((0, 0));
    let _ = write!(
        out,
        ",\"ProvisionedThroughput\":{{\"NumberOfDecreasesToday\":0,\"ReadCapacityUnits\":{read},\"WriteCapacityUnits\":{write}}}"
    );
}

fn key_schema(hash: &KeyPart, range: Option<&KeyPart>, out: &mut String) {
    out.push_str("[{\"AttributeName\":");
    write_text(&hash.name, out);
    out.push_str(",\"KeyType\":\"HASH\"}");
    if let Some(range) = range {
        out.push_str(",{\"AttributeName\":");
        write_text(&range.name, out);
        out.push_str(",\"KeyType\":\"RANGE\"}");
    }
    out.push(']');
}

/// A GlobalSecondaryIndexDescription. An index is there as soon as it is named.
fn index(at: usize, index: &Index, table: &Table, arn: &str, out: &mut String) {
    let keys = table.lookups[at].values();
    let count: usize = keys.clone().map(|keys| keys.len()).sum();
    let size: usize = keys.flatten().map(|key| key.len()).sum();
    let _ = write!(
        out,
        "{{\"IndexName\":\"{0}\",\"IndexStatus\":\"ACTIVE\",\"IndexArn\":\"{arn}/index/{0}\",\"IndexSizeBytes\":{size},\
         \"ItemCount\":{count},\"KeySchema\":",
        index.name
    );
    key_schema(&index.hash, index.range.as_ref(), out);
    out.push_str(",\"Projection\":{\"ProjectionType\":");
    match &index.projection {
        Projection::All => out.push_str("\"ALL\"}"),
        Projection::KeysOnly => out.push_str("\"KEYS_ONLY\"}"),
        Projection::Include(names) => {
            let _ = write!(out, "\"INCLUDE\",\"NonKeyAttributes\":{}}}", serde_json::Value::from(names.clone()));
        }
    }
    throughput(table.definition.provisioned, out);
    out.push('}');
}

/// A ContinuousBackupsDescription. The setting is kept, and means nothing: what this store has is the server's snapshots.
pub fn backups(table: &Table) -> String {
    let status = if table.definition.backups { "ENABLED" } else { "DISABLED" };
    format!(
        "{{\"ContinuousBackupsDescription\":{{\"ContinuousBackupsStatus\":\"ENABLED\",\"PointInTimeRecoveryDescription\":\
         {{\"PointInTimeRecoveryStatus\":\"{status}\"}}}}}}"
    )
}

fn seconds(us: u64) -> String {
    format!("{}.{:03}", us / 1_000_000, us / 1000 % 1000)
}

/// A UUID that stays with the table: of its name and the time of its creation.
fn table_id(name: &str, created: u64) -> String {
    let hash =
        name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ byte as u64).wrapping_mul(0x100_0000_01b3));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        hash >> 32,
        hash >> 16 & 0xffff,
        hash >> 4 & 0xfff,
        created & 0xfff,
        created >> 12 & 0xffff_ffff_ffff
    )
}
