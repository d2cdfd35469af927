//! Who is asking, and what they may do.

pub mod ask;
pub mod canonical;
pub mod condition;
pub mod credentials;
pub mod glob;
pub mod percent;
pub mod policy;
pub mod policy_text;
pub mod presented;
pub mod refusal;
pub mod sign;
pub mod sigv4;
pub mod stamp;
pub mod strict_json;
pub mod verify;

#[cfg(test)]
mod credentials_tests;
#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod verify_tests;
