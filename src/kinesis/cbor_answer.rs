//! Answers of the control plane and errors, which are made as JSON, in CBOR.

use super::cbor::{self, BREAK, OPEN_LIST, OPEN_MAP, head};
use serde_json::Value;

/// Members that are times: of all numbers in answers, they alone are not what they look like.
const TIMES: [&str; 2] = ["StreamCreationTimestamp", "ConsumerCreationTimestamp"];

/// The same answer in CBOR. There are no blobs in it.
pub fn of_json(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    // What this server has written is JSON.
    let value = serde_json::from_slice(json).unwrap_or(Value::Null);
    write(&mut out, &value);
    out
}

fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(is) => out.push(0xf4 | *is as u8),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => write_head(out, cbor::UNSIGNED, number),
            (None, Some(number)) => write_head(out, cbor::NEGATIVE, !number as u64),
            (None, None) => {
                out.push(0xfb);
                out.extend(number.as_f64().unwrap_or(0.0).to_be_bytes());
            }
        },
        Value::String(text) => write_text(out, text),
        Value::Array(items) => {
            out.push(OPEN_LIST);
            items.iter().for_each(|item| write(out, item));
            out.push(BREAK);
        }
        Value::Object(members) => {
            out.push(OPEN_MAP);
            for (name, value) in members {
                write_text(out, name);
                match value.as_f64().filter(|_| TIMES.contains(&name.as_str())) {
                    Some(seconds) => {
                        write_head(out, cbor::TAG, cbor::TIME);
                        write_head(out, cbor::UNSIGNED, (seconds * 1000.0).round() as u64);
                    }
                    None => write(out, value),
                }
            }
            out.push(BREAK);
        }
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    write_head(out, cbor::TEXT, text.len() as u64);
    out.extend(text.as_bytes());
}

fn write_head(out: &mut Vec<u8>, major: u8, value: u64) {
    let (bytes, len) = head(major, value);
    out.extend(&bytes[..len]);
}
