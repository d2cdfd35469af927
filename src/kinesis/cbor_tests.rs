//! CBOR against a general implementation, on bodies that a seed makes in every form that there is, breaks and cuts.

use super::cbor::{self, BREAK, Head, Parts, Walk, head};
use super::error::Kind;
use super::get_records::{self, ChildShard, Next};
use super::object::{self, Encoding};
use super::put_diagnosis::Shape;
use super::put_scan::Scan;
use super::put_scan_tests::Draw;
use super::sequence::{Run, SequenceNumber};
use super::{cbor_answer, put_record, put_records};
use crate::io::clock::Wall;
use ciborium::Value;

/// A head in any of the forms that hold the value.
fn push_head(draw: &mut Draw, out: &mut Vec<u8>, major: u8, value: u64) {
    let (bytes, len) = head(major, value);
    let longer = [2, 3, 5, 9][draw.next(4)];
    if draw.next(4) > 0 || longer <= len {
        return out.extend(&bytes[..len]);
    }
    out.push(major << 5 | [24, 25, 26, 27][[2, 3, 5, 9].iter().position(|l| *l == longer).expect("one of them")]);
    out.extend(&value.to_be_bytes()[9 - longer..]);
}

/// A string, of bytes or of text, at times in pieces that end between characters.
fn push_string(draw: &mut Draw, out: &mut Vec<u8>, major: u8, bytes: &[u8], pieces: bool) {
    if !pieces || draw.next(3) > 0 {
        push_head(draw, out, major, bytes.len() as u64);
        return out.extend(bytes);
    }
    out.push(major << 5 | 31);
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut at = 1 + draw.next(rest.len());
        while major == cbor::TEXT && at < rest.len() && rest[at] & 0xc0 == 0x80 {
            at += 1;
        }
        push_string(draw, out, major, &rest[..at], false);
        rest = &rest[at..];
        if draw.next(8) == 0 {
            push_head(draw, out, major, 0);
        }
    }
    out.push(BREAK);
}

fn push_parts(draw: &mut Draw, out: &mut Vec<u8>, major: u8, parts: Vec<Vec<u8>>, count: usize) {
    let open = draw.next(2) == 0;
    match open {
        true => out.push(major << 5 | 31),
        false => push_head(draw, out, major, count as u64),
    }
    parts.into_iter().for_each(|part| out.extend(part));
    out.extend(open.then_some(BREAK));
}

fn push(draw: &mut Draw, out: &mut Vec<u8>, value: &Value, pieces: bool) {
    match value {
        Value::Bytes(bytes) => push_string(draw, out, cbor::BYTES, bytes, pieces),
        Value::Text(text) => push_string(draw, out, cbor::TEXT, text.as_bytes(), pieces),
        Value::Integer(number) => match u64::try_from(*number) {
            Ok(number) => push_head(draw, out, cbor::UNSIGNED, number),
            Err(_) => push_head(draw, out, 1, (-1 - i128::from(*number)) as u64),
        },
        Value::Array(items) => {
            let parts = items.iter().map(|item| encoded(draw, item, pieces)).collect();
            push_parts(draw, out, 4, parts, items.len());
        }
        Value::Map(members) => {
            let part =
                |(name, value): &(Value, Value)| [encoded(draw, name, pieces), encoded(draw, value, pieces)].concat();
            let parts = members.iter().map(part).collect();
            push_parts(draw, out, 5, parts, members.len());
        }
        Value::Tag(tag, inner) => {
            push_head(draw, out, cbor::TAG, *tag);
            push(draw, out, inner, pieces);
        }
        plain => ciborium::into_writer(plain, out).expect("memory takes it"),
    }
}

fn encoded(draw: &mut Draw, value: &Value, pieces: bool) -> Vec<u8> {
    let mut out = Vec::new();
    push(draw, &mut out, value, pieces);
    out
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn any(draw: &mut Draw, depth: u32) -> Value {
    let count = draw.next(4);
    match draw.next(if depth < 4 { 10 } else { 7 }) {
        0 => Value::Null,
        1 => Value::Bool(draw.next(2) == 0),
        2 => Value::Integer([0, 23, 24, 255, 256, 1 << 40, u64::MAX][draw.next(7)].into()),
        3 => Value::Integer((-[1i64, 24, 25, 257, 1 << 40][draw.next(5)]).into()),
        4 => Value::Float([0.0, -1.5, 65504.0, 1e300, 0.1, 5.9604645e-8][draw.next(6)]),
        5 => Value::Bytes((0..[0, 3, 23, 24, 300][draw.next(5)]).map(|n| n as u8).collect()),
        6 => text(["", "a", "日本語-ä", "a text of more than twenty-three bytes"][draw.next(4)]),
        7 => Value::Array((0..count).map(|_| any(draw, depth + 1)).collect()),
        8 => Value::Map((0..count).map(|_| (text(["a", "b", ""][draw.next(3)]), any(draw, depth + 1))).collect()),
        _ => Value::Tag(draw.next(300) as u64 + 32, any(draw, depth + 1).into()),
    }
}

fn general(bytes: &[u8]) -> Option<Value> {
    let mut rest = bytes;
    let value = ciborium::from_reader(&mut rest).ok();
    value.filter(|_| rest.is_empty())
}

/// What the walk finds in an item.
fn rebuilt(bytes: &[u8]) -> Value {
    let mut walk = Walk::new(bytes);
    let head = walk.head().expect("an item");
    let mut all = Vec::new();
    match head {
        Head::Unsigned(number) => Value::Integer(number.into()),
        Head::Negative(number) => Value::Integer((-1 - number as i128).try_into().expect("of 64 bits")),
        Head::Float(number) => Value::Float(number),
        Head::Bool(is) => Value::Bool(is),
        Head::Null => Value::Null,
        Head::Tag(tag) => Value::Tag(tag, rebuilt(&bytes[walk.at..]).into()),
        Head::Bytes(Some(_)) => Value::Bytes(bytes[walk.at..].to_vec()),
        Head::Text(Some(_)) => Value::Text(String::from_utf8(bytes[walk.at..].to_vec()).expect("checked")),
        Head::Bytes(None) => {
            walk.chunks(head, |piece| all.extend(piece)).expect("checked");
            Value::Bytes(all)
        }
        Head::Text(None) => {
            walk.chunks(head, |piece| all.extend(piece)).expect("checked");
            Value::Text(String::from_utf8(all).expect("checked"))
        }
        Head::List(_) => Value::Array(Parts::of(bytes).map(|(_, item)| rebuilt(item)).collect()),
        Head::Map(_) => Value::Map(Parts::of(bytes).map(|(name, value)| (rebuilt(name), rebuilt(value))).collect()),
        Head::Other | Head::Break => panic!("{head:?} in a value"),
    }
}

#[test]
fn every_form_of_a_value_is_read_as_that_value() {
    for seed in 0..5_000 {
        let draw = &mut Draw(seed);
        let value = any(draw, 0);
        let bytes = encoded(draw, &value, true);
        assert_eq!(cbor::document(&bytes), Some(&bytes[..]), "{seed}: {value:?} as {bytes:02x?}");
        assert_eq!(rebuilt(&bytes), value, "{seed}: {bytes:02x?}");
        for cut in 0..bytes.len() {
            assert_eq!(cbor::document(&bytes[..cut]), None, "{seed}: {bytes:02x?} cut at {cut}");
        }
        assert_eq!(cbor::document(&[&bytes[..], &[0]].concat()), None);
    }
}

#[test]
fn what_is_taken_a_general_reader_takes_for_the_same() {
    let mut taken = 0;
    for seed in 0..5_000 {
        let draw = &mut Draw(seed);
        let value = any(draw, 0);
        let mut bytes = encoded(draw, &value, true);
        for _ in 0..20 {
            let at = draw.next(bytes.len());
            bytes[at] = draw.next(256) as u8;
            if cbor::document(&bytes).is_none() {
                continue;
            }
            let found = std::panic::catch_unwind(|| rebuilt(&bytes));
            let (Ok(found), Some(general)) = (found, general(&bytes)) else { continue };
            taken += 1;
            assert_eq!(format!("{found:?}"), format!("{general:?}"), "{seed}: {bytes:02x?}");
        }
    }
    assert!(taken > 10_000, "{taken}");
}

#[test]
fn what_is_no_cbor_is_refused() {
    for bytes in [
        &[][..],
        &[BREAK],
        &[0x1c],
        &[0x1f],
        &[0x3f],
        &[0xdf, 0],
        &[0x5f, 0x61, b'a', BREAK],
        &[0x7f, 0x41, b'a', BREAK],
        &[0x7f, 0x7f, BREAK, BREAK],
        &[0x61, 0xff],
        // A character in two pieces.
        &[0x7f, 0x61, 0xc3, 0x61, 0xa4, BREAK],
        &[0xbf, 0x61, b'a', BREAK],
        &[0xa1, 1, 1],
        &[0xf8, 0x14],
        &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        assert_eq!(cbor::document(bytes), None, "{bytes:02x?}");
    }
    let nested = |depth: usize| [vec![0x81; depth], vec![0]].concat();
    assert!(cbor::document(&nested(124)).is_some());
    for too_deep in [nested(125), vec![0x9f; 1_000_000], vec![0xc1; 1_000_000], vec![0xd8; 1_000_000]] {
        assert_eq!(cbor::document(&too_deep), None);
    }
}

#[test]
fn strings_in_pieces_are_put_together_in_place() {
    for seed in 0..5_000 {
        let draw = &mut Draw(seed);
        let value = any(draw, 0);
        let mut bytes = encoded(draw, &value, true);
        let before = bytes.clone();
        let len = cbor::join_chunks(&mut bytes).expect("valid");
        assert_eq!(rebuilt(&bytes[..len]), value, "{seed}: {before:02x?}");
        assert_eq!(cbor::join_chunks(&mut bytes[..len]), Some(len));
        let cut = draw.next(before.len());
        bytes = before[..cut].to_vec();
        assert_eq!((cbor::join_chunks(&mut bytes), &bytes[..]), (None, &before[..cut]));
    }
}

#[test]
fn members_are_found_by_name_and_type() {
    let body = |members: Vec<(&str, Value)>| {
        let members = members.into_iter().map(|(name, value)| (text(name), value)).collect();
        encoded(&mut Draw(1), &Value::Map(members), true)
    };
    let time = |value| Value::Tag(1, Box::new(value));
    let bytes = body(vec![
        ("S", text("first")),
        ("S", text("last, in a text of more than twenty-three bytes")),
        ("I", Value::Integer(7.into())),
        ("Big", Value::Integer((1i64 << 40).into())),
        ("F", Value::Float(-2.9)),
        ("Yes", text("YES")),
        ("True", Value::Bool(true)),
        ("T", time(Value::Integer(1_790_000_777_123i64.into()))),
        ("Plain", Value::Integer(5.into())),
        ("Early", time(Value::Integer((-5).into()))),
        ("FT", time(Value::Float(1.5))),
        ("N", Value::Null),
        ("B", Value::Bytes(vec![1, 2, 3])),
        ("M", Value::Map(vec![(text("k"), text("v")), (text("gone"), Value::Null)])),
        ("L", Value::Array(vec![Value::Map(vec![]), Value::Null])),
    ]);
    let o = object::parse(Encoding::Cbor, &bytes).expect("a map");
    assert_eq!(o.string("S").expect("text").as_deref(), Some("last, in a text of more than twenty-three bytes"));
    assert_eq!((o.string("N"), o.string("None")), (Ok(None), Ok(None)));
    let integers = ["I", "Big", "F"].map(|name| o.integer(name).expect("a number").expect("there"));
    assert_eq!(integers, [7, i32::MAX, -2]);
    assert_eq!(["Yes", "True", "N"].map(|name| o.boolean(name).expect("a boolean")), [Some(true), Some(true), None]);
    let times = ["T", "Plain", "Early"].map(|name| o.timestamp(name).expect("a time").expect("there"));
    assert_eq!(times, [1_790_000_777_123_000, 5_000, 0]);
    assert_eq!(o.blob("B").expect("a blob").map(|blob| blob.len), Some(3));
    assert_eq!(o.strings("M", 5).expect("strings"), Some([("k".to_owned(), "v".to_owned())].into()));
    let list: Vec<bool> =
        o.objects("L").expect("a list").expect("there").map(|o| o.expect("a map").is_some()).collect();
    assert_eq!(list, [true, false]);
    assert!(o.object("M").expect("a map").is_some_and(|m| m.string("k") == Ok(Some("v".to_owned()))));
    let why = |error: super::error::Error| (error.kind, error.message);
    let class = |class: &str, to: &str| (Kind::Serialization, format!("class {class} can not be converted to {to}"));
    assert_eq!(
        o.string("I").map_err(why),
        Err(class("com.amazon.coral.value.json.numbers.TruncatingBigNumber", "an String"))
    );
    assert_eq!(o.string("B").map_err(why), Err(class("java.nio.HeapByteBuffer", "an String")));
    assert_eq!(o.integer("S").map_err(why), Err(class("java.lang.String", "an Integer")));
    assert_eq!(o.blob("S").map_err(why), Err(class("java.lang.String", "a Blob")));
    // RFC 8949 would have seconds in a float here, which AWS does not.
    assert_eq!(o.timestamp("FT").map_err(why).expect_err("seconds").0, Kind::Serialization);
    assert_eq!(
        o.objects("M").map(|_| ()).map_err(why).expect_err("a map").1,
        "Start of structure or map found where not expected."
    );
    assert_eq!(o.strings("L", 1).map_err(why).expect_err("a list").1, "Start of list found where not expected");
    for bytes in [&[0x80][..], &[0x00], &[0xa1, 0x61, b'a'], &[]] {
        assert_eq!(
            object::parse(Encoding::Cbor, bytes).map(|_| ()).map_err(why),
            Err((Kind::Serialization, String::new()))
        );
    }
}

struct Wanted {
    data: Vec<u8>,
    key: &'static str,
    hash: Option<u128>,
}

fn wanted(draw: &mut Draw) -> Wanted {
    let data = (0..[0, 1, 23, 24, 255, 256, 3000][draw.next(7)]).map(|_| draw.next(256) as u8).collect();
    let key = ["k", "käse-日本語", "a\"b\\c", "0123456789012345678901234567890123456789"][draw.next(4)];
    let hash = (draw.next(4) == 0).then(|| [0, 1, u128::MAX][draw.next(3)]);
    Wanted { data, key, hash }
}

fn members(draw: &mut Draw, w: &Wanted) -> Vec<(Value, Value)> {
    let mut members = vec![(text("Data"), Value::Bytes(w.data.clone())), (text("PartitionKey"), text(w.key))];
    match w.hash {
        Some(hash) => members.push((text("ExplicitHashKey"), text(&hash.to_string()))),
        None if draw.next(4) == 0 => members.push((text("ExplicitHashKey"), Value::Null)),
        None => {}
    }
    if draw.next(4) == 0 {
        members.insert(draw.next(3), (text("Unknown"), any(draw, 0)));
    }
    if draw.next(2) == 0 {
        members.reverse();
    }
    members
}

fn check(scan: &Scan, body: &[u8], all: &[Wanted]) {
    assert_eq!(scan.stream.map(|name| name.of(body)), Some(&b"my-stream"[..]));
    assert_eq!(scan.records.len(), all.len());
    for (r, w) in scan.records.iter().zip(all) {
        assert_eq!((r.text.of(body), r.data_len as usize, r.key.text(body)), (&w.data[..], w.data.len(), w.key));
        assert_eq!(r.hash, w.hash.unwrap_or_else(|| crate::route::md5::hash(w.key.as_bytes())));
    }
}

#[test]
fn puts_are_scanned_in_every_form() {
    let mut scan = Scan::new();
    for seed in 0..2_000 {
        let draw = &mut Draw(seed);
        let all: Vec<Wanted> = (0..1 + draw.next(9)).map(|_| wanted(draw)).collect();
        let records = all.iter().map(|w| Value::Map(members(draw, w))).collect();
        let mut request = vec![(text("StreamName"), text("my-stream")), (text("Records"), Value::Array(records))];
        if draw.next(2) == 0 {
            request.reverse();
        }
        let pieces = draw.next(2) == 0;
        let bytes = encoded(draw, &Value::Map(request), pieces);
        let mut body = bytes.clone();
        scan.scan(Encoding::Cbor, &mut body, Shape::Many).unwrap_or_else(|error| panic!("{error}: {bytes:02x?}"));
        check(&scan, &body, &all);
        for _ in 0..20 {
            let cut = draw.next(bytes.len());
            let error = scan.scan(Encoding::Cbor, &mut bytes[..cut].to_vec(), Shape::Many).expect_err("cut");
            assert_eq!((error.kind, error.message.as_str()), (Kind::Serialization, ""));
            let mut changed = bytes.clone();
            changed[cut] = draw.next(256) as u8;
            let valid = cbor::document(&changed).is_some();
            let taken = scan.scan(Encoding::Cbor, &mut changed.clone(), Shape::Many);
            assert!(valid || taken.is_err(), "{changed:02x?}");
        }
        let mut one = members(draw, &all[0]);
        one.extend([
            (text("StreamName"), text("my-stream")),
            (text("SequenceNumberForOrdering"), text("12")),
            (text("DryRun"), Value::Bool(true)),
        ]);
        let mut body = encoded(draw, &Value::Map(one), pieces);
        scan.scan(Encoding::Cbor, &mut body, Shape::One).expect("valid");
        check(&scan, &body, &all[..1]);
        assert_eq!((scan.ordering.map(|text| text.text(&body)), scan.dry_run), (Some("12"), true));
    }
}

#[test]
fn a_wrong_put_is_told_why() {
    let error = |members: Vec<(&str, Value)>| {
        let members = members.into_iter().map(|(name, value)| (text(name), value)).collect();
        let mut body = encoded(&mut Draw(0), &Value::Map(members), true);
        Scan::new().scan(Encoding::Cbor, &mut body, Shape::One).expect_err("wrong").to_string()
    };
    let (name, key) = (("StreamName", text("s")), ("PartitionKey", text("k")));
    let missing = error(vec![name.clone(), key.clone()]);
    assert!(
        missing.ends_with("Value null at 'data' failed to satisfy constraint: Member must not be null"),
        "{missing}"
    );
    let of_text = error(vec![name.clone(), key.clone(), ("Data", text("AAAA"))]);
    assert_eq!(of_text, "SerializationException: class java.lang.String can not be converted to a Blob");
    let long = error(vec![name.clone(), key, ("Data", Value::Bytes(vec![0; crate::limits::RECORD_DATA_MAX + 1]))]);
    assert!(long.contains("Member must have length less than or equal to"), "{long}");
    let keyless = error(vec![name, ("PartitionKey", text(&"ä".repeat(257))), ("Data", Value::Bytes(vec![]))]);
    assert!(keyless.contains("at 'partitionKey' failed"), "{keyless}");
}

/// JSON and CBOR answers must say the same: blobs and times are what differs in form.
fn same(json: &[u8], cbor: &[u8]) {
    let json: serde_json::Value = serde_json::from_slice(json).expect("JSON");
    assert_eq!(cbor::document(cbor), Some(cbor));
    assert_same("", &json, &general(cbor).expect("CBOR"));
}

fn assert_same(name: &str, json: &serde_json::Value, cbor: &Value) {
    match (json, cbor) {
        (serde_json::Value::Object(json), Value::Map(cbor)) => {
            assert_eq!(json.len(), cbor.len());
            for (name, value) in cbor {
                let name = name.as_text().expect("names are text");
                assert_same(name, &json[name], value);
            }
        }
        (serde_json::Value::Array(json), Value::Array(cbor)) => {
            assert_eq!(json.len(), cbor.len());
            json.iter().zip(cbor).for_each(|(json, cbor)| assert_same(name, json, cbor));
        }
        (serde_json::Value::String(json), Value::Bytes(cbor)) => {
            let mut text = vec![0; cbor.len() / 3 * 4 + 4];
            let len = super::base64::encode_into(cbor, &mut text);
            assert_eq!((name, json.as_bytes()), ("Data", &text[..len]));
        }
        (serde_json::Value::String(json), Value::Text(cbor)) => assert_eq!(json, cbor),
        (serde_json::Value::Number(json), Value::Tag(1, ms)) => {
            let ms = i128::from(ms.as_integer().expect("whole milliseconds"));
            assert!(name.ends_with("Timestamp"), "{name}");
            assert_eq!((json.as_f64().expect("seconds") * 1000.0).round() as i128, ms);
        }
        (serde_json::Value::Number(json), Value::Integer(cbor)) => {
            assert_eq!(json.as_i64().map(i128::from), Some(i128::from(*cbor)))
        }
        (serde_json::Value::Bool(json), Value::Bool(cbor)) => assert_eq!(json, cbor),
        (serde_json::Value::Null, Value::Null) => {}
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn answers_say_the_same_in_both_encodings() {
    let number = SequenceNumber { created: 1_790_000_000, shard: 4_000_000_000, number: 77, at: 1_790_000_777 };
    let run = Run::new(number);
    let both = |write: &dyn Fn(Encoding, &mut Vec<u8>) -> usize| {
        let [json, cbor] = [Encoding::Json, Encoding::Cbor].map(|encoding| {
            let mut out = vec![0; 1 << 16];
            let len = write(encoding, &mut out);
            out.truncate(len);
            out
        });
        same(&json, &cbor);
    };
    both(&|encoding, out| {
        let mut short = [0; put_record::ANSWER_MAX];
        let len = put_record::answer(encoding, &mut short, &number);
        out[..len].copy_from_slice(&short[..len]);
        len
    });
    for (stored, refused) in [(0, 1), (1, 0), (3, 2)] {
        both(&|encoding, out| {
            let size = put_records::size_max(stored + refused, refused);
            let mut answer = put_records::Answer::begin(encoding, &mut out[..size], refused);
            (0..stored).for_each(|at| answer.stored(&run, at as u32));
            (0..refused).for_each(|_| answer.refused("InternalFailure", &"a \"text\"\n".repeat(60)));
            answer.finish()
        });
    }
    let parents = [[Some(1), None], [Some(1), Some(2)]];
    let children = parents.map(|parents| ChildShard { shard: 9, parents, first: 0, last: u128::MAX });
    for (data, next, children) in [(&[][..], Some("AAAA-_"), &[][..]), (&[0xff; 300], None, &children)] {
        both(&|encoding, out| {
            let mut answer = get_records::Answer::begin(encoding, out, 0);
            for at in 0..3 {
                let from = answer.len();
                answer.push(out, &run, at, Wall(1_790_000_777_123_456), Some("k\"ä\n".as_bytes()), data);
                assert!(answer.len() - from <= get_records::size_max(6, data.len()));
            }
            answer.push(out, &run, 3, Wall(1_790_000_777_000_000), None, data);
            answer.finish(out, next.map_or(Next::Nothing, Next::Iterator), 12_345, children)
        });
    }
    let json = r#"{"StreamDescription":{"StreamName":"a \"ä\"","StreamCreationTimestamp":1790000777.123,"Shards":[],"HasMoreShards":false,
        "Count":-3,"Nothing":null,"Many":[1,300,70000,5000000000]}}"#;
    same(json.as_bytes(), &cbor_answer::of_json(json.as_bytes()));
}
