//! `penstock rebalance`: has the running server move shards between its logs; puts to a shard wait for a moment, and none is refused.
//! Records stay on the drive that they were written to until they expire, and are read there.

use super::admin::Server;
use super::directory;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Data directory (the home) of the running server [default: as for serve]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Only say what would be moved
    #[arg(long)]
    dry_run: bool,
    /// This shard instead of those that even things out, as NAME:shardId-000000000000; repeatable, each with a --to
    #[arg(long, value_name = "STREAM:SHARD", conflicts_with = "away", requires = "to")]
    shard: Vec<String>,
    /// The number of the log that the shard goes to; one for each --shard, in the same order
    #[arg(long, value_name = "LOG", requires = "shard")]
    to: Vec<u32>,
    /// Move every open shard off this data directory
    #[arg(long, value_name = "DIR")]
    away: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<(), String> {
    let body = request(args)?;
    let data = match &args.data {
        Some(data) => data.clone(),
        None => directory::default()?,
    };
    let server = Server::of(&data)?;
    let (mut moved, mut stayed) = (0, 0);
    let logs = loop {
        let answer = server.rebalance(&body)?;
        let now = list(&answer, "moved");
        now.iter().for_each(show_moved);
        list(&answer, "not_moved").iter().for_each(show_stayed);
        (moved, stayed) = (moved + now.len(), stayed + list(&answer, "not_moved").len());
        let left = answer["left"].as_u64().unwrap_or(0);
        // A request moves some; the next one is planned anew. One that moves nothing ends it.
        if left == 0 || now.is_empty() || args.dry_run {
            if left > 0 {
                println!("and {left} more");
            }
            break list(&answer, "logs").to_vec();
        }
    };
    for log in &logs {
        let failed = if log["failed"] == Value::Bool(true) { ", which has failed" } else { "" };
        println!("log {} in {}: {} open shards{failed}", log["log"], text(&log["directory"]), log["shards"]);
    }
    match (moved, stayed, args.dry_run) {
        (0, 0, _) => println!("nothing is to be moved: the logs have what they should"),
        (_, 0, true) => println!("{moved} shards would be moved"),
        (_, 0, false) => println!("{moved} shards moved; their records stay where they are until they expire"),
        _ => return Err(format!("{stayed} shards were not moved, {moved} were")),
    }
    Ok(())
}

/// What the server is sent.
fn request(args: &Args) -> Result<Value, String> {
    if args.shard.len() != args.to.len() {
        return Err(format!("{} --shard and {} --to: each shard goes to one log", args.shard.len(), args.to.len()));
    }
    let mut body = json!({ "dry_run": args.dry_run });
    if let Some(away) = &args.away {
        // The server knows its directories by their full paths.
        let path = away.canonicalize().map_err(|error| format!("{}: {error}", away.display()))?;
        body["away"] = path.display().to_string().into();
    }
    if !args.shard.is_empty() {
        let moves = args.shard.iter().zip(&args.to).map(|(shard, to)| {
            let parts = shard.rsplit_once(':').ok_or_else(|| format!("--shard {shard}: it is STREAM:SHARD"));
            parts.map(|(stream, shard)| json!({ "stream": stream, "shard": shard, "to": to }))
        });
        body["moves"] = moves.collect::<Result<Vec<_>, _>>()?.into();
    }
    Ok(body)
}

fn list<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer[name].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn show_moved(told: &Value) {
    let took = told["ms"].as_u64().map_or(String::new(), |ms| format!(", in {ms} ms"));
    println!(
        "{} {}: log {} ({}) -> log {} ({}){took}",
        text(&told["stream"]),
        text(&told["shard"]),
        told["from"],
        text(&told["from_directory"]),
        told["to"],
        text(&told["to_directory"])
    );
}

fn show_stayed(told: &Value) {
    println!(
        "{} {}: not moved to log {}: {}",
        text(&told["stream"]),
        text(&told["shard"]),
        told["to"],
        text(&told["why"])
    );
}
