//! Which operation on lease tables a request asks for.

/// How the target of every operation begins.
pub const TARGET: &[u8] = b"DynamoDB_20120810.";

/// An operation that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    CreateTable,
    DeleteItem,
    DeleteTable,
    DescribeContinuousBackups,
    DescribeTable,
    GetItem,
    ListTables,
    PutItem,
    Query,
    Scan,
    TransactWriteItems,
    UpdateContinuousBackups,
    UpdateItem,
    UpdateTable,
    /// One that DynamoDB may have and this store has not.
    Unknown,
}

impl Operation {
    /// From the `X-Amz-Target` header; `None`: it is not of DynamoDB.
    pub fn from_target(target: &[u8]) -> Option<Operation> {
        Some(match target.strip_prefix(TARGET)? {
            b"CreateTable" => Operation::CreateTable,
            b"DeleteItem" => Operation::DeleteItem,
            b"DeleteTable" => Operation::DeleteTable,
            b"DescribeContinuousBackups" => Operation::DescribeContinuousBackups,
            b"DescribeTable" => Operation::DescribeTable,
            b"GetItem" => Operation::GetItem,
            b"ListTables" => Operation::ListTables,
            b"PutItem" => Operation::PutItem,
            b"Query" => Operation::Query,
            b"Scan" => Operation::Scan,
            b"TransactWriteItems" => Operation::TransactWriteItems,
            b"UpdateContinuousBackups" => Operation::UpdateContinuousBackups,
            b"UpdateItem" => Operation::UpdateItem,
            b"UpdateTable" => Operation::UpdateTable,
            _ => Operation::Unknown,
        })
    }
}
