//! What a request on lease tables needs permission for.

use super::operation::Operation;
use super::request::{Deed, ItemWrite, Page, Read, Request, Write};
use std::borrow::Cow;

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
    /// Each action that it takes, and on which table, or index of a table; `None`: on none of its own.
    pub fn needs(&self, operation: Operation) -> Vec<(&'static str, Option<Cow<'_, str>>)> {
        let table: Option<&str> = match self {
            Request::Write(Write::Transaction(writes)) => {
                return writes.iter().map(|write| (write.action(), Some(Cow::from(&write.table)))).collect();
            }
            Request::Read(Read::ListTables { .. }) => None,
            // As policies for the client library have it: they name the table and its indexes apart.
            Request::Read(Read::Query { page, index: Some(index), .. }) => {
                return vec![(operation.action(), Some(Cow::from(format!("{}/index/{index}", page.table))))];
            }
            Request::Read(
                Read::DescribeTable { table }
                | Read::DescribeContinuousBackups { table }
                | Read::GetItem { table, .. }
                | Read::Scan(Page { table, .. })
                | Read::Query { page: Page { table, .. }, .. },
            ) => Some(table),
            Request::Write(Write::DeleteTable { table } | Write::UpdateContinuousBackups { table, .. }) => Some(table),
            Request::Write(Write::CreateTable(new)) => Some(&new.table),
            Request::Write(Write::UpdateTable(update)) => Some(&update.table),
            Request::Write(Write::Item(write)) => Some(&write.table),
        };
        vec![(operation.action(), table.map(Cow::from))]
    }
}
