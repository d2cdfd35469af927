//! One request in three dialects, what is refused, and what the store keeps.

use super::dialect::{Dialect, Kind, answer, call};
use super::form::BODY_BYTES_MAX;
use super::request::{Datum, decode};
use super::store::{LABEL_BYTES_MAX, METRICS_MAX, Name, Statistics, Store};
use crate::io::clock::Mono;
use crate::kinesis::cbor_answer::of_json;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::io::Write;

const MINUTE: u64 = 60_000_000_000;

/// As the client library sends it.
fn request() -> Value {
    json!({
        "Namespace": "my app",
        "MetricData": [
            {"MetricName": "RecordsProcessed", "Unit": "Count",
             "Dimensions": [{"Name": "ShardId", "Value": "shard-1"}, {"Name": "Operation", "Value": "ProcessTask"}],
             "StatisticValues": {"SampleCount": 2.0, "Sum": 7.5, "Minimum": 2.5, "Maximum": 5.0}},
            {"MetricName": "Time", "Value": -3.0, "Timestamp": 1764000000.5},
            {"MetricName": "Sizes", "Values": [1.0, 4.0], "Counts": [3.0, 1.0]},
        ],
    })
}

const FORM: &str = "Action=PutMetricData&Version=2010-08-01&Namespace=my+app&MetricData.member.1.MetricName=Records%50rocessed\
    &MetricData.member.1.Unit=Count&MetricData.member.1.Dimensions.member.1.Name=ShardId\
    &MetricData.member.1.Dimensions.member.1.Value=shard-1&MetricData.member.1.Dimensions.member.2.Name=Operation\
    &MetricData.member.1.Dimensions.member.2.Value=ProcessTask&MetricData.member.1.StatisticValues.SampleCount=2\
    &MetricData.member.1.StatisticValues.Sum=7.5&MetricData.member.1.StatisticValues.Minimum=2.5\
    &MetricData.member.1.StatisticValues.Maximum=5&MetricData.member.2.MetricName=Time&MetricData.member.2.Value=-3\
    &MetricData.member.2.Timestamp=2025-11-24T16%3A00%3A00Z&MetricData.member.3.MetricName=Sizes\
    &MetricData.member.3.Values.member.1=1&MetricData.member.3.Values.member.2=4\
    &MetricData.member.3.Counts.member.1=3&MetricData.member.3.Counts.member.2=1";

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn the_dialects_say_the_same() {
    let json = request().to_string();
    let data = decode(Dialect::Json, json.as_bytes()).expect("valid");
    assert_eq!(data.len(), 3);
    assert_eq!(data[0].statistics, Statistics { count: 2.0, sum: 7.5, min: 2.5, max: 5.0 });
    assert_eq!(data[0].name.dimensions[0], ("Operation".to_string(), "ProcessTask".to_string()));
    assert_eq!(data[1].statistics, Statistics::of(-3.0, 1.0));
    assert_eq!(data[2].statistics, Statistics { count: 4.0, sum: 7.0, min: 1.0, max: 4.0 });
    for body in [of_json(json.as_bytes()), gzip(&of_json(json.as_bytes()))] {
        assert_eq!(decode(Dialect::Cbor, &body).as_ref(), Ok(&data));
    }
    assert_eq!(decode(Dialect::Form, FORM.as_bytes()).as_ref(), Ok(&data));
    assert_eq!(decode(Dialect::Form, &gzip(FORM.as_bytes())).as_ref(), Ok(&data));
    assert_eq!(decode(Dialect::Json, &gzip(json.as_bytes())), Ok(data));
}

#[test]
fn a_call_is_known_by_target_path_or_form() {
    let form: Option<&[u8]> = Some(b"application/x-www-form-urlencoded; charset=utf-8");
    let known =
        |path: &str, target: Option<&[u8]>, form| call(path, target, form).map(|call| (call.dialect, call.is_known));
    assert_eq!(known("/", Some(b"GraniteServiceVersion20100801.PutMetricData"), None), Some((Dialect::Json, true)));
    assert_eq!(known("/", Some(b"GraniteServiceVersion20100801.GetMetricData"), None), Some((Dialect::Json, false)));
    let path = "/service/GraniteServiceVersion20100801/operation/PutMetricData";
    assert_eq!(known(path, None, None), Some((Dialect::Cbor, true)));
    assert_eq!(known("/service/GraniteServiceVersion20100801/operation/X", None, None), Some((Dialect::Cbor, false)));
    assert_eq!(known("/", None, form), Some((Dialect::Form, true)));
    assert_eq!(known("/", Some(b"Kinesis_20131202.PutRecord"), form), None);
    assert_eq!(known("/", None, Some(b"application/x-amz-json-1.1")), None);
}

#[test]
fn what_is_no_request_is_refused() {
    let check = |dialect, body: &[u8], kind| {
        assert_eq!(decode(dialect, body).map_err(|error| error.kind), Err(kind), "{}", String::from_utf8_lossy(body));
    };
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut request = request();
        change(&mut request);
        request.to_string()
    };
    let datum = |name: &str, value: Value| changed(&|request| request["MetricData"][1][name] = value.clone());
    for (body, kind) in [
        (String::new(), Kind::Malformed),
        ("[]".to_string(), Kind::Malformed),
        ("{}".to_string(), Kind::MissingParameter),
        (changed(&|request| request["Namespace"] = "".into()), Kind::InvalidParameterValue),
        (changed(&|request| request["Namespace"] = ":x".into()), Kind::InvalidParameterValue),
        (changed(&|request| request["MetricData"] = Value::Null), Kind::MissingParameter),
        (changed(&|request| request["MetricData"] = "x".into()), Kind::InvalidParameterValue),
        (changed(&|request| request["MetricData"] = vec![json!({}); 1001].into()), Kind::InvalidParameterValue),
        (datum("MetricName", Value::Null), Kind::MissingParameter),
        (datum("MetricName", "x".repeat(256).into()), Kind::InvalidParameterValue),
        (datum("Value", Value::Null), Kind::MissingParameter),
        (datum("Value", "NaN".into()), Kind::InvalidParameterValue),
        (datum("Value", json!(1e300)), Kind::InvalidParameterValue),
        (datum("StatisticValues", json!({"Sum": 1})), Kind::InvalidParameterCombination),
        (datum("Dimensions", json!([{"Name": "x"}])), Kind::MissingParameter),
        (datum("Unit", 7.into()), Kind::InvalidParameterValue),
        (
            changed(&|request| request["MetricData"][0]["StatisticValues"]["Minimum"] = 9.into()),
            Kind::InvalidParameterValue,
        ),
        (changed(&|request| request["MetricData"][2]["Counts"] = json!([1])), Kind::InvalidParameterValue),
    ] {
        check(Dialect::Json, body.as_bytes(), kind);
    }
    check(Dialect::Cbor, &[0x9f, 0xff], Kind::Malformed);
    check(Dialect::Cbor, &[0xbf], Kind::Malformed);
    check(Dialect::Form, b"Action=ListMetrics", Kind::UnknownOperation);
    check(Dialect::Form, b"Action=PutMetricData&Namespace=%zz", Kind::Malformed);
    check(Dialect::Form, b"Action=PutMetricData&MetricData.member.99999999.Value=1", Kind::Malformed);
    check(Dialect::Form, b"Action=PutMetricData&Namespace.x=1&Namespace=2&Namespace.x=1", Kind::Malformed);
    check(Dialect::Json, &gzip(request().to_string().as_bytes())[..40], Kind::Malformed);
    check(Dialect::Json, &gzip(&vec![b' '; BODY_BYTES_MAX + 1]), Kind::InvalidParameterValue);
    check(Dialect::Json, &vec![b' '; BODY_BYTES_MAX + 1], Kind::InvalidParameterValue);
}

#[test]
fn an_error_is_told_in_its_dialect() {
    let error = || Err(super::dialect::Error::new(Kind::MissingParameter, "a < b"));
    let body = |dialect| answer(dialect, error()).2;
    assert_eq!(body(Dialect::Json), br#"{"__type":"MissingRequiredParameterException","message":"a < b"}"#);
    assert_eq!(body(Dialect::Cbor), of_json(&body(Dialect::Json)));
    let xml = String::from_utf8(body(Dialect::Form)).expect("text");
    assert!(xml.contains("<Code>MissingParameter</Code><Message>a &lt; b</Message>"), "{xml}");
}

fn datum(metric: &str, dimensions: &[(&str, &str)], value: f64) -> Datum {
    let dimensions = dimensions.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let name = Name { namespace: "n".into(), metric: metric.into(), unit: "Count".into(), dimensions };
    Datum { name, statistics: Statistics::of(value, 1.0) }
}

#[test]
fn an_hour_is_kept_and_shown() {
    let mut store = Store::default();
    let dimensions = [("a-b", "x\"y\\z\n"), ("a.b", "2")];
    store.add(Mono(0), vec![datum("m", &dimensions, 5.0), datum("m", &dimensions, 1.0)]);
    store.add(Mono(30 * MINUTE), vec![datum("m", &dimensions, 3.0)]);
    let labels = r#"{namespace="n",metric="m",unit="Count",dimension_a_b="x\"y\\z\n",dimension_a_b_1="2"}"#;
    let shows = |store: &mut Store, at: u64, kind: &str, value: &str| {
        let (text, line) = (store.text(Mono(at)), format!("penstock_client_metric_{kind}{labels} {value}\n"));
        assert!(text.contains(&line), "{line} in {text}");
    };
    shows(&mut store, 59 * MINUTE, "sum_total", "9");
    shows(&mut store, 59 * MINUTE, "samples_total", "3");
    shows(&mut store, 59 * MINUTE, "min", "1");
    shows(&mut store, 60 * MINUTE, "min", "3");
    shows(&mut store, 89 * MINUTE, "sum_total", "9");
    assert!(!store.text(Mono(90 * MINUTE)).contains("penstock_client_metric_"), "an hour without data ends it");
}

#[test]
fn the_store_is_bounded_and_old_metrics_make_room() {
    let mut store = Store::default();
    let many = |from: usize, count: usize| (from..from + count).map(|n| datum(&format!("m{n}"), &[], 1.0)).collect();
    store.add(Mono(0), many(0, METRICS_MAX + 7));
    assert!(store.text(Mono(0)).contains("dropped_total 7\n"));
    store.add(Mono(59 * MINUTE), many(0, METRICS_MAX - 5));
    store.add(Mono(60 * MINUTE), many(METRICS_MAX, 6));
    assert!(store.text(Mono(60 * MINUTE)).contains("dropped_total 8\n"), "five had been idle for an hour");
    let mut store = Store::default();
    let value = "\"".repeat(1000);
    let large = |n: usize| datum(&format!("m{n}"), &[("d", value.as_str())], 1.0);
    store.add(Mono(0), (0..2000).map(large).collect());
    assert!(store.text(Mono(0)).len() < 5 * LABEL_BYTES_MAX);
}
