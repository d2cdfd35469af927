//! Requests on lease tables, decoded and validated as far as they can be without the tables.

use super::condition::Condition;
use super::error::{Error, Kind};
use super::expression::{self, Substitutes};
use super::item::{Item, Value, read_item};
use super::legacy;
use super::limits::{BODY_BYTES_MAX, TRANSACTION_ITEMS_MAX};
use super::members::{Members, parse, violation};
use super::operation::Operation;
use super::schema::{self, NewTable, TableUpdate};
use super::update::Update;
use serde_json::Value as Json;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Answered from what is durable.
    Read(Read),
    /// Judged by what is proposed, and answered when that is durable.
    Write(Write),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    DescribeTable { table: String },
    DescribeContinuousBackups { table: String },
    ListTables { after: Option<String>, limit: usize },
    GetItem { table: String, key: Item, names: Option<Vec<String>> },
    Scan(Page),
    Query { page: Page, index: Option<String>, key: Condition, forward: bool },
}

/// A part of a table or index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub table: String,
    pub filter: Option<Condition>,
    pub names: Option<Vec<String>>,
    /// Only how many there are is wanted.
    pub counts: bool,
    pub limit: usize,
    pub after: Option<Item>,
    /// This part of so many.
    pub segment: (u32, u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    CreateTable(NewTable),
    UpdateTable(TableUpdate),
    DeleteTable { table: String },
    UpdateContinuousBackups { table: String, enabled: bool },
    Item(ItemWrite),
    Transaction(Vec<ItemWrite>),
}

/// What is answered of the item that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Returned {
    #[default]
    Nothing,
    AllOld,
    UpdatedOld,
    AllNew,
    UpdatedNew,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    Put(Item),
    Update(Update),
    Delete,
    /// Nothing: of a transaction.
    Check,
}

/// A write of one item, which is made if its condition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemWrite {
    pub table: String,
    /// Of a put: the whole item.
    pub key: Item,
    pub deed: Deed,
    pub condition: Option<Condition>,
    pub returned: Returned,
    /// Where the condition fails, the error has the item.
    pub returned_on_failure: bool,
}

pub fn decode(operation: Operation, body: &[u8]) -> Result<Request, Error> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Error::validation(format!("The request has more than {BODY_BYTES_MAX} bytes")));
    }
    let json = parse(body)?;
    let request = Members::of(&json, "the request")?;
    let table = || table_name(&request);
    Ok(match operation {
        Operation::DescribeTable => Request::Read(Read::DescribeTable { table: table()? }),
        Operation::DescribeContinuousBackups => Request::Read(Read::DescribeContinuousBackups { table: table()? }),
        Operation::ListTables => Request::Read(list_tables(&request)?),
        Operation::GetItem => Request::Read(get_item(&request)?),
        Operation::Scan => Request::Read(scan(&request)?),
        Operation::Query => Request::Read(query(&request)?),
        Operation::CreateTable => Request::Write(Write::CreateTable(schema::create(&request)?)),
        Operation::UpdateTable => Request::Write(Write::UpdateTable(schema::update(&request)?)),
        Operation::DeleteTable => Request::Write(Write::DeleteTable { table: table()? }),
        Operation::UpdateContinuousBackups => Request::Write(continuous_backups(&request)?),
        Operation::PutItem | Operation::UpdateItem | Operation::DeleteItem => {
            Request::Write(Write::Item(item_write(operation, &request)?))
        }
        Operation::TransactWriteItems => Request::Write(transaction(&request)?),
        Operation::Unknown => {
            let text = "This is a store for lease tables, not a DynamoDB: the operation is not served";
            return Err(Error::new(Kind::UnknownOperation, text));
        }
    })
}

/// The name of the table, which may come as its ARN.
pub fn table_name(request: &Members<'_>) -> Result<String, Error> {
    let text = request.wanted("TableName", request.text("TableName")?)?;
    let name = match text.strip_prefix("arn:") {
        Some(_) => text.rsplit_once(":table/").map_or(text, |(_, name)| name),
        None => text,
    };
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !name.bytes().all(is_part) {
        return Err(violation(text, "TableName", "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"));
    }
    match name.len() {
        0..3 => Err(violation(text, "TableName", "Member must have length greater than or equal to 3")),
        3..=255 => Ok(name.to_string()),
        _ => Err(violation(text, "TableName", "Member must have length less than or equal to 255")),
    }
}

/// A number within bounds.
fn number(request: &Members<'_>, name: &str, least: i64, most: i64) -> Result<Option<i64>, Error> {
    let Some(number) = request.number(name)? else { return Ok(None) };
    let constraint = match number {
        n if n < least => format!("Member must have value greater than or equal to {least}"),
        n if n > most => format!("Member must have value less than or equal to {most}"),
        _ => return Ok(Some(number)),
    };
    Err(violation(&number.to_string(), name, &constraint))
}

fn list_tables(request: &Members<'_>) -> Result<Read, Error> {
    let limit = number(request, "Limit", 1, 100)?.unwrap_or(100) as usize;
    let after = request.text("ExclusiveStartTableName")?.map(str::to_string);
    Ok(Read::ListTables { after, limit })
}

fn continuous_backups(request: &Members<'_>) -> Result<Write, Error> {
    let name = "PointInTimeRecoverySpecification";
    let specification = request.wanted(name, request.members(name)?)?;
    let name = "PointInTimeRecoveryEnabled";
    let enabled = specification.wanted(name, specification.truth(name)?)?;
    Ok(Write::UpdateContinuousBackups { table: table_name(request)?, enabled })
}

/// `ExpressionAttributeNames` and `ExpressionAttributeValues`.
fn substitutes(request: &Members<'_>) -> Result<Substitutes, Error> {
    let mut names = BTreeMap::new();
    if let Some(members) = request.members("ExpressionAttributeNames")? {
        for (key, _) in members.entries() {
            if key.len() < 2 || !key.starts_with('#') {
                let text = format!("ExpressionAttributeNames contains invalid key: Syntax error; key: \"{key}\"");
                return Err(Error::validation(text));
            }
            names.insert(key.clone(), members.wanted(key, members.text(key)?)?.to_string());
        }
    }
    let mut values = Item::new();
    if let Some(members) = request.members("ExpressionAttributeValues")? {
        for (key, json) in members.entries() {
            if key.len() < 2 || !key.starts_with(':') {
                let text = format!("ExpressionAttributeValues contains invalid key: Syntax error; key: \"{key}\"");
                return Err(Error::validation(text));
            }
            values.insert(key.clone(), Value::read(json, 0)?);
        }
    }
    Ok(Substitutes::new(names, values))
}

/// Both dialects in one request are refused, as DynamoDB does.
fn one_dialect(request: &Members<'_>) -> Result<(), Error> {
    let expressions = [
        "ConditionExpression",
        "FilterExpression",
        "KeyConditionExpression",
        "ProjectionExpression",
        "UpdateExpression",
    ];
    let expressions: Vec<&str> = expressions.into_iter().filter(|name| request.json(name).is_some()).collect();
    let legacy = legacy::used(request);
    if expressions.is_empty() || legacy.is_empty() {
        return Ok(());
    }
    let text = format!(
        "Can not use both expression and non-expression parameters in the same request: Non-expression parameters: {{{}}} \
         Expression parameters: {{{}}}",
        legacy.join(", "),
        expressions.join(", ")
    );
    Err(Error::validation(text))
}

fn key(request: &Members<'_>) -> Result<Item, Error> {
    read_item(request.wanted("Key", request.json("Key"))?, 0)
}

/// The names of the attributes that are wanted, in either dialect.
fn wanted_names(request: &Members<'_>, with: &Substitutes) -> Result<Option<Vec<String>>, Error> {
    if let Some(list) = request.list("AttributesToGet")? {
        let names: Option<Vec<String>> = list.iter().map(|json| json.as_str().map(str::to_string)).collect();
        return names
            .map(Some)
            .ok_or_else(|| Error::new(Kind::Serialization, "AttributesToGet must be a list of strings"));
    }
    request.text("ProjectionExpression")?.map(|text| expression::names(text, with)).transpose()
}

fn get_item(request: &Members<'_>) -> Result<Read, Error> {
    one_dialect(request)?;
    let with = substitutes(request)?;
    request.truth("ConsistentRead")?;
    let names = wanted_names(request, &with)?;
    with.all_used()?;
    Ok(Read::GetItem { table: table_name(request)?, key: key(request)?, names })
}

fn page(request: &Members<'_>, with: &Substitutes) -> Result<Page, Error> {
    one_dialect(request)?;
    request.none_of(&["ScanFilter", "QueryFilter", "KeyConditions", "ConditionalOperator"])?;
    request.truth("ConsistentRead")?;
    let filter = request.text("FilterExpression")?;
    let select =
        request.word("Select", &["SPECIFIC_ATTRIBUTES", "COUNT", "ALL_ATTRIBUTES", "ALL_PROJECTED_ATTRIBUTES"])?;
    Ok(Page {
        table: table_name(request)?,
        filter: filter.map(|text| expression::condition("FilterExpression", text, with)).transpose()?,
        names: wanted_names(request, with)?,
        counts: select == Some("COUNT"),
        limit: number(request, "Limit", 1, i32::MAX as i64)?.map_or(usize::MAX, |limit| limit as usize),
        after: request
            .json("ExclusiveStartKey")
            .map(|json| read_item(json, 0))
            .transpose()?
            .filter(|key| !key.is_empty()),
        segment: (0, 1),
    })
}

fn scan(request: &Members<'_>) -> Result<Read, Error> {
    request.none_of(&["IndexName"])?;
    let with = substitutes(request)?;
    let mut page = page(request, &with)?;
    with.all_used()?;
    let total = number(request, "TotalSegments", 1, 1_000_000)?;
    let segment = number(request, "Segment", 0, 999_999)?;
    page.segment = match (segment, total) {
        (None, None) => (0, 1),
        (Some(_), None) => {
            return Err(Error::validation(
                "The TotalSegments parameter is required but was not present in the request when parameter Segment is present",
            ));
        }
        (None, Some(_)) => {
            return Err(Error::validation(
                "The Segment parameter is required but was not present in the request when parameter TotalSegments is present",
            ));
        }
        (Some(segment), Some(total)) if segment >= total => {
            let text = format!(
                "The Segment parameter is zero-based and must be less than parameter TotalSegments: Segment: {segment} is not less than TotalSegments: {total}"
            );
            return Err(Error::validation(text));
        }
        (Some(segment), Some(total)) => (segment as u32, total as u32),
    };
    Ok(Read::Scan(page))
}

fn query(request: &Members<'_>) -> Result<Read, Error> {
    let with = substitutes(request)?;
    let page = page(request, &with)?;
    let Some(text) = request.text("KeyConditionExpression")? else {
        let text = "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.";
        return Err(Error::validation(text));
    };
    let key = expression::condition("KeyConditionExpression", text, &with)?;
    with.all_used()?;
    let index = request.text("IndexName")?.map(str::to_string);
    Ok(Read::Query { page, index, key, forward: request.truth("ScanIndexForward")?.unwrap_or(true) })
}

fn returned(request: &Members<'_>) -> Result<Returned, Error> {
    let words = ["ALL_NEW", "UPDATED_OLD", "ALL_OLD", "NONE", "UPDATED_NEW"];
    Ok(match request.word("ReturnValues", &words)? {
        Some("ALL_OLD") => Returned::AllOld,
        Some("UPDATED_OLD") => Returned::UpdatedOld,
        Some("ALL_NEW") => Returned::AllNew,
        Some("UPDATED_NEW") => Returned::UpdatedNew,
        _ => Returned::Nothing,
    })
}

/// PutItem, UpdateItem, DeleteItem; or such an action of a transaction.
fn item_write(operation: Operation, request: &Members<'_>) -> Result<ItemWrite, Error> {
    one_dialect(request)?;
    let with = substitutes(request)?;
    let returned = returned(request)?;
    let condition = match request.text("ConditionExpression")? {
        Some(text) => Some(expression::condition("ConditionExpression", text, &with)?),
        None => legacy::expected(request)?,
    };
    let old_only = matches!(returned, Returned::Nothing | Returned::AllOld);
    if operation != Operation::UpdateItem && !old_only {
        return Err(Error::validation("ReturnValues can only be ALL_OLD or NONE"));
    }
    let (key, deed) = match operation {
        Operation::PutItem => {
            let item = read_item(request.wanted("Item", request.json("Item"))?, 0)?;
            (item.clone(), Deed::Put(item))
        }
        Operation::UpdateItem => {
            let update = match request.text("UpdateExpression")? {
                Some(text) => expression::update(text, &with)?,
                None => legacy::updates(request)?.unwrap_or_default(),
            };
            (key(request)?, Deed::Update(update))
        }
        Operation::DeleteItem => (key(request)?, Deed::Delete),
        _ => (key(request)?, Deed::Check),
    };
    with.all_used()?;
    let on_failure = request.word("ReturnValuesOnConditionCheckFailure", &["ALL_OLD", "NONE"])?;
    let returned_on_failure = on_failure == Some("ALL_OLD");
    Ok(ItemWrite { table: table_name(request)?, key, deed, condition, returned, returned_on_failure })
}

fn transaction(request: &Members<'_>) -> Result<Write, Error> {
    let list = request.wanted("TransactItems", request.list("TransactItems")?)?;
    if list.is_empty() || list.len() > TRANSACTION_ITEMS_MAX {
        let constraint = match list.is_empty() {
            true => "Member must have length greater than or equal to 1".to_string(),
            false => format!("Member must have length less than or equal to {TRANSACTION_ITEMS_MAX}"),
        };
        return Err(violation(&format!("[{} items]", list.len()), "TransactItems", &constraint));
    }
    Ok(Write::Transaction(list.iter().map(transaction_item).collect::<Result<_, _>>()?))
}

fn transaction_item(json: &Json) -> Result<ItemWrite, Error> {
    let item = Members::of(json, "TransactItems")?;
    let mut there = item.entries();
    let (Some((name, json)), None) = (there.next(), there.next()) else {
        return Err(Error::validation("TransactItems can only contain one of Check, Put, Update or Delete"));
    };
    let operation = match name.as_str() {
        "Put" => Operation::PutItem,
        "Update" => Operation::UpdateItem,
        "Delete" => Operation::DeleteItem,
        "ConditionCheck" => Operation::Unknown,
        _ => return Err(Error::validation("TransactItems can only contain one of Check, Put, Update or Delete")),
    };
    let members = Members::of(json, name)?;
    if operation == Operation::Unknown {
        members.wanted("ConditionExpression", members.json("ConditionExpression"))?;
    }
    item_write(operation, &members)
}
