//! The scanner against a general parser, on bodies that a seed makes, breaks and cuts.

use super::error::Kind;
use super::object::Encoding;
use super::put_diagnosis::Shape;
use super::put_scan::Scan;
use serde_json::Value;

/// A small generator, so that a failure names a seed.
pub(super) struct Draw(pub u64);

impl Draw {
    pub fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % below as u64) as usize
    }
    fn space(&mut self) -> &'static str {
        ["", "", "", " ", "\n\t", "  \r\n"][self.next(6)]
    }
}

/// A record as a client has it.
#[derive(Clone, Debug)]
struct Wanted {
    data: Vec<u8>,
    key: String,
    hash: Option<u128>,
}

fn base64(data: &[u8]) -> String {
    let mut out = vec![0; data.len() / 3 * 4 + 4];
    let len = super::base64::encode_into(data, &mut out);
    String::from_utf8(out[..len].to_vec()).expect("ASCII")
}

/// A JSON string, plain or with more escapes than needed.
fn quote(draw: &mut Draw, text: &str) -> String {
    let escaped = match draw.next(4) {
        0 => text.chars().map(|c| if c == '/' { "\\/".to_string() } else { json_char(c) }).collect(),
        1 if text.is_ascii() => text.chars().map(|c| format!("\\u{:04x}", c as u32)).collect(),
        _ => text.chars().map(json_char).collect::<String>(),
    };
    format!("\"{escaped}\"")
}

fn json_char(c: char) -> String {
    match c {
        '"' => "\\\"".into(),
        '\\' => "\\\\".into(),
        c if (c as u32) < 0x20 => format!("\\u{:04x}", c as u32),
        c => c.into(),
    }
}

fn wanted(draw: &mut Draw) -> Wanted {
    let keys = [
        "k",
        "partition-key/7",
        "käse-日本語",
        "a\"b\\c",
        "tab\there",
        "0123456789012345678901234567890123456789012345678901234567890123",
    ];
    let len = [0, 1, 2, 3, 16, 100, 255, 1000][draw.next(8)];
    let data = (0..len).map(|_| draw.next(256) as u8).collect();
    let hash = (draw.next(4) == 0).then(|| [0, 1, u128::MAX, 1 << 100][draw.next(4)]);
    Wanted { data, key: keys[draw.next(keys.len())].to_string(), hash }
}

fn record(draw: &mut Draw, w: &Wanted) -> String {
    let mut members = vec![
        format!("\"Data\"{}:{}{}", draw.space(), draw.space(), quote(draw, &base64(&w.data))),
        format!("\"PartitionKey\":{}{}", draw.space(), quote(draw, &w.key)),
    ];
    match w.hash {
        Some(hash) => members.push(format!("\"ExplicitHashKey\":\"{hash}\"")),
        None if draw.next(4) == 0 => members.push("\"ExplicitHashKey\":null".into()),
        None => {}
    }
    if draw.next(5) == 0 {
        members.push("\"Unknown\":{\"a\":[1,2,{\"b\":\"}]\"}]}".into());
    }
    if draw.next(2) == 0 {
        members.reverse();
    }
    format!("{{{}{}{}}}", draw.space(), members.join(&format!("{},{}", draw.space(), draw.space())), draw.space())
}

fn body(draw: &mut Draw, all: &[Wanted]) -> String {
    let records: Vec<String> = all.iter().map(|w| record(draw, w)).collect();
    let list = format!("\"Records\":{}[{}]", draw.space(), records.join(","));
    let name = format!("\"StreamName\":{}", quote(draw, "my-stream"));
    match draw.next(3) {
        0 => format!("{{{list},{name}}}"),
        1 => format!("{{{name}{},{}{list}{}}}", draw.space(), draw.space(), draw.space()),
        _ => format!("{{{name},\"StreamId\":null,\"Other\":-1.5e3,{list}}}\n"),
    }
}

fn check(scan: &mut Scan, text: &str, all: &[Wanted]) {
    let mut bytes = text.as_bytes().to_vec();
    scan.scan(Encoding::Json, &mut bytes, Shape::Many).unwrap_or_else(|error| panic!("{error} in {text}"));
    assert_eq!(scan.stream.expect("named").of(&bytes), b"my-stream");
    assert_eq!(scan.records.len(), all.len());
    for (r, w) in scan.records.iter().zip(all) {
        let mut data = vec![0; r.data_len as usize];
        super::base64::decode_into(r.text.of(&bytes), &mut data);
        assert_eq!((&data, r.key.of(&bytes)), (&w.data, w.key.as_bytes()));
        assert_eq!(r.hash, w.hash.unwrap_or_else(|| crate::route::md5::hash(w.key.as_bytes())));
    }
}

#[test]
fn what_clients_send_is_read_back_in_any_order_and_with_any_escapes() {
    let mut scan = Scan::new();
    for seed in 0..3_000 {
        let draw = &mut Draw(seed);
        let count = 1 + draw.next(20);
        let all: Vec<Wanted> = (0..count).map(|_| wanted(draw)).collect();
        let text = body(draw, &all);
        check(&mut scan, &text, &all);
    }
}

#[test]
fn a_cut_or_changed_body_is_never_taken_for_something_that_it_is_not() {
    let mut scan = Scan::new();
    for seed in 0..300 {
        let draw = &mut Draw(seed);
        let all: Vec<Wanted> = (0..2).map(|_| wanted(draw)).collect();
        let text = body(draw, &all);
        for cut in 0..text.trim_end().len() {
            let mut bytes = text.as_bytes()[..cut].to_vec();
            let error = scan.scan(Encoding::Json, &mut bytes, Shape::Many).expect_err("a cut body is no JSON");
            assert_eq!((error.kind, error.message.as_str()), (Kind::Serialization, ""), "cut at {cut}: {text}");
        }
        for _ in 0..200 {
            let mut bytes = text.as_bytes().to_vec();
            let at = draw.next(bytes.len());
            bytes[at] = [b'"', b'\\', b'{', b'}', b'[', b',', b'=', b'A', 0, 0xff, b' '][draw.next(11)];
            let valid = serde_json::from_slice::<Value>(&bytes).is_ok();
            let taken = scan.scan(Encoding::Json, &mut bytes.clone(), Shape::Many);
            assert!(valid || taken.is_err(), "taken, though it is no JSON: {:?}", String::from_utf8_lossy(&bytes));
            if let Err(error) = &taken {
                let of_syntax = error.kind == Kind::Serialization && error.message.is_empty();
                assert_eq!(of_syntax, !valid, "{error}: {:?}", String::from_utf8_lossy(&bytes));
                // What the scanner does not take has a reason that a client can act on.
                assert!(!error.message.contains("does not read"), "{error}: {:?}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}

#[test]
fn one_record_is_read_with_its_members_beside_the_stream() {
    let mut scan = Scan::new();
    for seed in 0..1_000 {
        let draw = &mut Draw(seed);
        let wanted = wanted(draw);
        let inner = record(draw, &wanted);
        let text = format!(
            "{},\"StreamName\":\"s\",\"SequenceNumberForOrdering\":\"12\",\"DryRun\":true}}",
            &inner[..inner.len() - 1]
        );
        let mut bytes = text.into_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        scan.scan(Encoding::Json, &mut bytes, Shape::One).unwrap_or_else(|error| panic!("{error} in {text}"));
        let [r] = scan.records[..] else { panic!("one record") };
        let mut data = vec![0; r.data_len as usize];
        super::base64::decode_into(r.text.of(&bytes), &mut data);
        assert_eq!((&data, r.key.of(&bytes)), (&wanted.data, wanted.key.as_bytes()));
        assert_eq!(scan.stream.map(|e| e.text(&bytes)), Some("s"));
        assert_eq!(scan.ordering.map(|e| e.text(&bytes)), Some("12"));
        assert!(scan.dry_run);
        assert_eq!(scan.payload, data.len() + wanted.key.len());
    }
}

#[test]
fn names_and_numbers_may_be_escaped_too_and_the_last_of_two_counts() {
    let text = r#"{"StreamName":"bad name","\u0053treamName":"my\u002dstream","StreamARN":null,"Records":null,"\u0052ecords":[
        {"Data":"!","D\u0061ta":"QQ=\u003d","PartitionKey":1,"PartitionKey":"\/\ud83d\ude00","ExplicitHashKey":"1\u0032"}]}"#;
    // A wrong member is refused even though a later one replaces it, and not as bad syntax.
    assert!(error(text).contains("given twice"));
    let text = text.replace(r#""PartitionKey":1,"#, "").replace(r#""Data":"!","#, r#""Data":"AAAA","#);
    let mut bytes = text.into_bytes();
    let mut scan = Scan::new();
    scan.scan(Encoding::Json, &mut bytes, Shape::Many).expect("valid");
    let [r] = scan.records[..] else { panic!("one record") };
    assert_eq!(scan.stream.map(|e| e.text(&bytes)), Some("my-stream"));
    assert_eq!((r.text.of(&bytes), r.data_len, r.key.text(&bytes), r.hash), (&b"QQ=="[..], 1, "/\u{1f600}", 12));
}

/// The error that a body gets.
fn error(text: &str) -> String {
    Scan::new().scan(Encoding::Json, &mut text.as_bytes().to_vec(), Shape::Many).expect_err(text).to_string()
}

#[test]
fn what_is_wrong_is_said_as_aws_says_it() {
    let cases = [
        ("{", "SerializationException: "),
        ("{} x", "SerializationException: "),
        (r#"{"StreamName":"s","Records":"x"}"#, "SerializationException: Expected list or null"),
        (
            r#"{"StreamName":1,"Records":[]}"#,
            "SerializationException: class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to an String",
        ),
        (
            r#"{"StreamName":"s","Records":[{"Data":"abc","PartitionKey":"k"}]}"#,
            "SerializationException: 'abc' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: 3",
        ),
        (
            r#"{"StreamName":"s","Records":[{"Data":"ab-c","PartitionKey":"k"}]}"#,
            "SerializationException: 'ab-c' can not be converted to a Blob: Invalid Base64 character: '-'",
        ),
        (
            r#"{"StreamName":"s","Records":[{"Data":"A=BC","PartitionKey":"k"}]}"#,
            "SerializationException: 'A=BC' can not be converted to a Blob: Invalid Base64 character: '='",
        ),
        (
            r#"{"StreamName":"s","Records":[{"Data":"AB==","PartitionKey":"k"}]}"#,
            "SerializationException: 'AB==' can not be converted to a Blob: Invalid last non-pad Base64 character dectected",
        ),
        (
            r#"{"StreamName":"s"}"#,
            "ValidationException: 1 validation error detected: Value null at 'records' failed to satisfy constraint: Member must not be null",
        ),
        (
            r#"{"StreamName":"s","Records":[{"Data":"","PartitionKey":""}]}"#,
            "ValidationException: 1 validation error detected: Value '' at 'records.1.member.partitionKey' failed to satisfy constraint: \
             Member must have length greater than or equal to 1",
        ),
        (
            r#"{"StreamName":"s","Records":[{"Data":"","PartitionKey":"k","ExplicitHashKey":"01"}]}"#,
            "ValidationException: 1 validation error detected: Value '01' at 'records.1.member.explicitHashKey' failed to satisfy \
             constraint: Member must satisfy regular expression pattern: 0|([1-9]\\d{0,38})",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn a_record_of_another_shape_is_told_as_by_aws() {
    let many = |records: &str| error(&format!(r#"{{"StreamName":"s","Records":{records}}}"#));
    let good = r#"{"Data":"","PartitionKey":"k"}"#;
    for scalar in ["1", "true", "\"x\"", "-2.5e7"] {
        assert_eq!(many(&format!("[{good},{scalar}]")), "SerializationException: Expected null", "{scalar}");
    }
    assert_eq!(many(&format!("[{good},[]]")), "SerializationException: Start of list found where not expected");
    assert_eq!(many("{}"), "SerializationException: Start of structure or map found where not expected.");
    assert_eq!(
        many(&format!("[{good},null]")),
        "ValidationException: 1 validation error detected: Value null at 'records.2.member' failed to satisfy constraint: Member must \
         not be null"
    );
    // A type is wrong far behind more broken constraints than are told.
    let empty = vec!["{}"; 600].join(",");
    assert_eq!(many(&format!("[{empty},[]]")), "SerializationException: Start of list found where not expected");
    let text = many(&format!("[{empty}]"));
    assert!(
        text.starts_with("ValidationException: 10 validation errors detected: Value '[600 items]' at 'records'"),
        "{text}"
    );
}

#[test]
fn a_dry_run_may_be_a_word() {
    for (value, dry_run) in
        [(r#""true""#, true), (r#""Y\u0065s""#, true), (r#""0""#, false), ("false", false), ("null", false)]
    {
        let mut body = format!(r#"{{"DryRun":{value},"StreamName":"s","Data":"","PartitionKey":"k"}}"#).into_bytes();
        let mut scan = Scan::new();
        scan.scan(Encoding::Json, &mut body, Shape::One).expect(value);
        assert_eq!(scan.dry_run, dry_run, "{value}");
    }
    let body = r#"{"DryRun":"maybe","StreamName":"s","Records":[{"Data":"","PartitionKey":"k"}]}"#;
    assert_eq!(error(body), "SerializationException: 'MAYBE' can not be converted to an Boolean");
}

#[test]
fn the_first_hash_key_beyond_all_is_noted() {
    let mut scan = Scan::new();
    for (keys, noted) in [
        (["1", "340282366920938463463374607431768211455"], None),
        (["340282366920938463463374607431768211456", "1"], Some("340282366920938463463374607431768211456")),
        (["\\u0039\\u0039".repeat(19).as_str(), "9".repeat(39).as_str()], Some("9".repeat(39).as_str())),
        (["9".repeat(39).as_str(), "340282366920938463463374607431768211456"], Some("9".repeat(39).as_str())),
    ] {
        let record = |key: &str| format!(r#"{{"Data":"","PartitionKey":"k","ExplicitHashKey":"{key}"}}"#);
        let text = format!(r#"{{"Records":[{},{}],"StreamName":"s"}}"#, record(keys[0]), record(keys[1]));
        let mut body = text.into_bytes();
        scan.scan(Encoding::Json, &mut body, Shape::Many).expect("a number of the pattern");
        assert_eq!(scan.beyond_hashes.map(|hash| hash.text(&body)), noted, "{keys:?}");
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    let deep = format!("{{\"StreamName\":\"s\",\"X\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(error(&deep), "SerializationException: ");
}

#[test]
fn bounds_are_met_exactly() {
    let record = |key: &str| format!("{{\"Data\":\"AAAA\",\"PartitionKey\":\"{key}\"}}");
    let many = |count: usize| format!("{{\"StreamName\":\"s\",\"Records\":[{}]}}", vec![record("k"); count].join(","));
    assert!(Scan::new().scan(Encoding::Json, &mut many(500).into_bytes(), Shape::Many).is_ok());
    assert!(error(&many(501)).contains("Member must have length less than or equal to 500"));
    let keyed = |key: &str| format!("{{\"StreamName\":\"s\",\"Records\":[{}]}}", record(key));
    assert!(Scan::new().scan(Encoding::Json, &mut keyed(&"ä".repeat(256)).into_bytes(), Shape::Many).is_ok());
    // One record's wrong key is no other's: both ways of reading count alike.
    let both =
        format!("{{\"StreamName\":\"s\",\"Records\":[{},{}]}}", record(&"😀".repeat(256)), record(&"k".repeat(257)));
    let text = error(&both);
    assert!(text.contains("1 validation error ") && text.contains("less than or equal to 256"), "{text}");
}
