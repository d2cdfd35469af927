//! What the parts are given: a PutRecords request as the canonical benchmark sends it, and what becomes of it.

use penstock::kinesis::{base64, cbor};
use penstock::log::format::{self, Entry};

pub const RECORDS: usize = 500;
pub const DATA: usize = 256;

/// A request and its parts.
pub struct Input {
    /// The body of the request.
    pub request: Vec<u8>,
    pub texts: Vec<String>,
    pub data: Vec<Vec<u8>>,
    pub keys: Vec<String>,
}

impl Input {
    pub fn new() -> Input {
        let mut state = 0x5eed_u64;
        let mut byte = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 56) as u8
        };
        let data: Vec<Vec<u8>> = (0..RECORDS).map(|_| (0..DATA).map(|_| byte()).collect()).collect();
        let texts: Vec<String> = data.iter().map(|data| encoded(data)).collect();
        let keys: Vec<String> = (0..RECORDS).map(|r| format!("key-{r:08}")).collect();
        let record = |(text, key): (&String, &String)| format!("{{\"Data\":\"{text}\",\"PartitionKey\":\"{key}\"}}");
        let records: Vec<String> = texts.iter().zip(&keys).map(record).collect();
        let request = format!("{{\"StreamName\":\"bench\",\"Records\":[{}]}}", records.join(",")).into_bytes();
        Input { request, texts, data, keys }
    }

    /// The request as Java's SDK would write it.
    pub fn in_cbor(&self) -> Vec<u8> {
        let text = |out: &mut Vec<u8>, text: &str| {
            let (head, len) = cbor::head(cbor::TEXT, text.len() as u64);
            out.extend(&head[..len]);
            out.extend(text.as_bytes());
        };
        let mut out = vec![cbor::OPEN_MAP];
        ["StreamName", "bench", "Records"].iter().for_each(|part| text(&mut out, part));
        out.push(cbor::OPEN_LIST);
        for (data, key) in self.data.iter().zip(&self.keys) {
            out.push(cbor::OPEN_MAP);
            text(&mut out, "Data");
            let (head, len) = cbor::head(cbor::BYTES, data.len() as u64);
            out.extend(&head[..len]);
            out.extend(data);
            text(&mut out, "PartitionKey");
            text(&mut out, key);
            out.push(cbor::BREAK);
        }
        out.extend([cbor::BREAK, cbor::BREAK]);
        out
    }

    pub fn entries(&self) -> Vec<Entry> {
        let each = self.keys[0].len();
        (0..RECORDS).map(|r| Entry::new((r * (each + DATA)) as u32, Some(each as u16), DATA as u32)).collect()
    }

    /// The body of a frame with all records.
    pub fn body(&self) -> Vec<u8> {
        let mut out: Vec<u8> = Vec::new();
        for (key, data) in self.keys.iter().zip(&self.data) {
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(data);
        }
        let payload = out.len();
        out.resize(format::body_size(payload, RECORDS), 0);
        format::write_index(&mut out, payload, &self.entries());
        out
    }
}

fn encoded(data: &[u8]) -> String {
    let mut out = vec![0; data.len().div_ceil(3) * 4];
    let len = base64::encode_into(data, &mut out);
    String::from_utf8(out[..len].to_vec()).expect("base64 is ASCII")
}
