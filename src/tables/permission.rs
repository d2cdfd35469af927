//! What a request on lease tables needs permission for.

use super::operation::Operation;
use super::request::{Deed, ItemWrite, Read, Request, Write};

impl Operation {
    /// As policies name it.
    pub fn action(self) -> &'static str {
        match self {
            Operation::CreateTable => "dynamodb:CreateTable",
            Operation::DeleteItem => "dynamodb:DeleteItem",
            Operation::DeleteTable => "dynamodb:DeleteTable",
            Operation::DescribeContinuousBackups => "dynamodb:DescribeContinuousBackups",
            Operation::DescribeTable => "dynamodb:DescribeTable",
            Operation::GetItem => "dynamodb:GetItem",
            Operation::ListTables => "dynamodb:ListTables",
            Operation::PutItem => "dynamodb:PutItem",
            Operation::Query => "dynamodb:Query",
            Operation::Scan => "dynamodb:Scan",
            // Each of its writes needs its own.
            Operation::TransactWriteItems | Operation::Unknown => "",
            Operation::UpdateContinuousBackups => "dynamodb:UpdateContinuousBackups",
            Operation::UpdateItem => "dynamodb:UpdateItem",
            Operation::UpdateTable => "dynamodb:UpdateTable",
        }
    }
}

impl ItemWrite {
    fn action(&self) -> &'static str {
        match self.deed {
            Deed::Put(_) => "dynamodb:PutItem",
            Deed::Update(_) => "dynamodb:UpdateItem",
            Deed::Delete => "dynamodb:DeleteItem",
            Deed::Check => "dynamodb:ConditionCheckItem",
        }
    }
}

impl Request {
    /// Each action that it takes, and on which table; `None`: on none of its own.
    pub fn needs(&self, operation: Operation) -> Vec<(&'static str, Option<&str>)> {
        let table: Option<&str> = match self {
            Request::Write(Write::Transaction(writes)) => {
                return writes.iter().map(|write| (write.action(), Some(write.table.as_str()))).collect();
            }
            Request::Read(Read::ListTables { .. }) => None,
            Request::Read(
                Read::DescribeTable { table }
                | Read::DescribeContinuousBackups { table }
                | Read::GetItem { table, .. }
                | Read::Scan(super::request::Page { table, .. })
                | Read::Query { page: super::request::Page { table, .. }, .. },
            ) => Some(table),
            Request::Write(Write::DeleteTable { table } | Write::UpdateContinuousBackups { table, .. }) => Some(table),
            Request::Write(Write::CreateTable(new)) => Some(&new.table),
            Request::Write(Write::UpdateTable(update)) => Some(&update.table),
            Request::Write(Write::Item(write)) => Some(&write.table),
        };
        vec![(operation.action(), table)]
    }
}
