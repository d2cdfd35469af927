//! Who the appliance says it is, in ARNs and error texts.

/// Region and account of every resource of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// As in `us-east-1`.
    pub region: String,
    /// 12 digits.
    pub account: String,
}
