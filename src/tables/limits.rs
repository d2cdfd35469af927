//! Bounds of lease tables. They keep what a rotation of the catalog's journal writes small: nothing else is journaled meanwhile.

/// Tables. A client library's application has one, an old one three.
pub const TABLES_MAX: usize = 256;
/// Bytes of all tables as [`super::state`] counts them. This is 18,700 to 23,800 leases, by their length; a rotation then writes some 31 MB,
/// a fraction of a second on an SSD.
pub const TABLES_BYTES_MAX: u64 = 16 << 20;
/// Bytes of an item, as text.
pub const ITEM_BYTES_MAX: usize = 64 << 10;
/// Bytes of the value of a key, as DynamoDB has it.
pub const KEY_BYTES_MAX: usize = 2048;
/// Lists and maps within each other, as DynamoDB has it.
pub const DEPTH_MAX: usize = 32;
/// Bytes of an expression, as DynamoDB has it; its parentheses within each other.
pub const EXPRESSION_BYTES_MAX: usize = 4096;
pub const PARENTHESES_MAX: usize = 32;
/// Bytes of a request.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Items of a transaction, as DynamoDB has it; and the bytes of what it writes, which is one entry of the journal.
pub const TRANSACTION_ITEMS_MAX: usize = 100;
pub const TRANSACTION_BYTES_MAX: usize = 768 << 10;
/// Bytes of items that one Scan or Query looks at: worker 0 does nothing else meanwhile.
pub const PAGE_BYTES_MAX: usize = 256 << 10;
/// Indexes of a table.
pub const INDEXES_MAX: usize = 5;
