//! What an unmodified AWS SDK for Rust does with a stream, from its making to its deletion. Ends with an error at the first surprise.

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, Record, ShardIteratorType, StartingPosition, StreamStatus};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use std::error::Error;

const STREAM: &str = "compat-rust";
const FIRST: &str = "shardId-000000000000";

fn client() -> Client {
    let endpoint = std::env::var("AWS_ENDPOINT_URL_KINESIS").expect("AWS_ENDPOINT_URL_KINESIS names the server");
    let named = |name: &str| std::env::var(name).unwrap_or_else(|_| "any".to_owned());
    let credentials =
        Credentials::new(named("AWS_ACCESS_KEY_ID"), named("AWS_SECRET_ACCESS_KEY"), None, None, "environment");
    let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build_https();
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials)
        .endpoint_url(endpoint)
        .http_client(http)
        .build();
    Client::from_conf(config)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = client();
    client.create_stream().stream_name(STREAM).shard_count(2).send().await?;
    let described = client.describe_stream_summary().stream_name(STREAM).send().await?;
    let summary = described.stream_description_summary().ok_or("a summary")?;
    assert_eq!((summary.stream_status(), summary.open_shard_count()), (&StreamStatus::Active, 2));

    println!("passed: create, describe");
    let put = put_all(&client).await?;
    let read = read_all(&client).await?;
    assert_eq!(read, put, "every record comes back with its number, key and bytes");
    println!("passed: 500 records in one put, every record read with its number, key and bytes");

    subscribe(&client).await?;
    println!("passed: a subscription while records are put, to the end of a shard");
    let listed = client.list_shards().stream_name(STREAM).send().await?;
    let children = listed.shards().iter().filter(|s| s.parent_shard_id() == Some(FIRST));
    assert_eq!((listed.shards().len(), children.count()), (4, 2));

    println!("passed: split");
    let missing = client.describe_stream().stream_name("no-such-stream").send().await;
    let missing = missing.expect_err("the stream does not exist").into_service_error();
    assert!(missing.is_resource_not_found_exception(), "{missing}");

    println!("passed: errors by type");
    client.delete_stream().stream_name(STREAM).enforce_consumer_deletion(true).send().await?;
    assert!(!client.list_streams().send().await?.stream_names().contains(&STREAM.to_string()));
    println!("passed: delete");
    Ok(())
}

type Stored = (String, String, Vec<u8>);

async fn put_all(client: &Client) -> Result<Vec<Stored>, Box<dyn Error>> {
    let data = |n: usize| (0..n * 7).map(|i| (i * n) as u8).collect::<Vec<u8>>();
    let mut stored = Vec::new();
    let entry =
        |n: usize| PutRecordsRequestEntry::builder().data(Blob::new(data(n))).partition_key(format!("clé-{n}")).build();
    let entries = (0..500).map(entry).collect::<Result<Vec<_>, _>>()?;
    let answer = client.put_records().stream_name(STREAM).set_records(Some(entries)).send().await?;
    assert_eq!(answer.failed_record_count(), Some(0));
    for (n, place) in answer.records().iter().enumerate() {
        stored.push((place.sequence_number().ok_or("a number")?.to_string(), format!("clé-{n}"), data(n)));
    }
    let one = client.put_record().stream_name(STREAM).partition_key("one").data(Blob::new("alone")).send().await?;
    stored.push((one.sequence_number().to_string(), "one".into(), b"alone".to_vec()));
    stored.sort();
    Ok(stored)
}

/// Every record of the first shard by a subscription: those that are there, those that come meanwhile, to the end that a split makes.
async fn subscribe(client: &Client) -> Result<(), Box<dyn Error>> {
    let described = client.describe_stream_summary().stream_name(STREAM).send().await?;
    let arn = described.stream_description_summary().ok_or("a summary")?.stream_arn().to_string();
    let registered = client.register_stream_consumer().stream_arn(arn).consumer_name("rust").send().await?;
    let consumer = registered.consumer().ok_or("a consumer")?.consumer_arn().to_string();
    let start = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon).build()?;
    let call = client.subscribe_to_shard().consumer_arn(consumer).shard_id(FIRST).starting_position(start);
    let mut events = call.send().await?.event_stream;
    for n in 0..50 {
        let put = client.put_record().stream_name(STREAM).partition_key("meanwhile").explicit_hash_key("7");
        put.data(Blob::new(vec![7; n * 1000])).send().await?;
    }
    client.split_shard().stream_name(STREAM).shard_to_split(FIRST).new_starting_hash_key("1000").send().await?;
    let (mut came, mut children) = (Vec::new(), 0);
    while let Some(event) = events.recv().await? {
        let event = event.as_subscribe_to_shard_event().map_err(|other| format!("{other:?} came"))?;
        came.extend(event.records().iter().map(stored));
        children = event.child_shards().len();
    }
    assert_eq!(children, 2);
    assert_eq!(came, read_shard(client, FIRST).await?, "every record comes, in order");
    Ok(())
}

fn stored(record: &Record) -> Stored {
    let key = record.partition_key().unwrap_or_default().to_string();
    (record.sequence_number().to_string(), key, record.data().as_ref().to_vec())
}

async fn read_all(client: &Client) -> Result<Vec<Stored>, Box<dyn Error>> {
    let mut all = Vec::new();
    for shard in client.list_shards().stream_name(STREAM).send().await?.shards() {
        all.extend(read_shard(client, shard.shard_id()).await?);
    }
    all.sort();
    Ok(all)
}

async fn read_shard(client: &Client, shard: &str) -> Result<Vec<Stored>, Box<dyn Error>> {
    let mut all = Vec::new();
    let kind = ShardIteratorType::TrimHorizon;
    let first = client.get_shard_iterator().stream_name(STREAM).shard_id(shard).shard_iterator_type(kind);
    let mut iterator = first.send().await?.shard_iterator().map(str::to_string);
    while iterator.is_some() {
        let answer = client.get_records().set_shard_iterator(iterator).limit(100).send().await?;
        all.extend(answer.records().iter().map(stored));
        if answer.records().is_empty() && answer.millis_behind_latest() == Some(0) {
            break;
        }
        iterator = answer.next_shard_iterator().map(str::to_string);
    }
    Ok(all)
}
