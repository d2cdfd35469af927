//! What a change has made of a stream and its shards, for the operator.

use crate::catalog::change::{Change, ClosedShard};
use crate::catalog::state::{State, Stream};
use std::fmt;

/// One line about one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamNews {
    /// Its name.
    pub stream: String,
    pub what: What,
}

/// What has become of it. `parents` and `children` are names of shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Created {
        shards: u32,
    },
    Deleted,
    /// A shard takes its records on another log now.
    ShardMoved {
        shard: u32,
        log: u32,
    },
    /// A move ended where it began: the log that the shard is on has failed meanwhile.
    ShardStays {
        shard: u32,
        log: u32,
    },
    Resharded {
        parents: String,
        children: String,
    },
    /// A split or merge ended where it began: the log of a parent has failed meanwhile.
    ParentsStay {
        parents: String,
    },
}

impl StreamNews {
    /// What is told of `change`, by the state that it left; `None`: nothing.
    pub fn of(change: &Change, state: &State) -> Option<StreamNews> {
        let (number, what) = match change {
            Change::CreateStream { number, shards, .. } => (number, What::Created { shards: *shards }),
            Change::DeleteStream { stream } => (stream, What::Deleted),
            Change::MovedShard { stream, moved } => {
                let (shard, log) = (moved.shard, moved.to);
                let stays = moved.next == 0;
                (stream, if stays { What::ShardStays { shard, log } } else { What::ShardMoved { shard, log } })
            }
            Change::OpenChildren { stream, closed } => (stream, resharded(state.stream_by_number(*stream)?, closed)),
            Change::ParentsStay { stream, parents } => (stream, What::ParentsStay { parents: names(parents) }),
            _ => return None,
        };
        Some(StreamNews { stream: state.stream_by_number(*number)?.name.clone(), what })
    }
}

fn resharded(stream: &Stream, closed: &[ClosedShard]) -> What {
    let mut children: Vec<u32> = closed.iter().flat_map(|c| stream.children(c.number).map(|s| s.number)).collect();
    children.dedup();
    What::Resharded { parents: names(closed.iter().map(|c| &c.number)), children: names(&children) }
}

fn names<'a>(shards: impl IntoIterator<Item = &'a u32>) -> String {
    shards.into_iter().map(|number| format!("shardId-{number:012}")).collect::<Vec<_>>().join(" + ")
}

impl fmt::Display for StreamNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = &self.stream;
        match &self.what {
            What::Created { shards } => write!(f, "stream {stream} created with {shards} shards"),
            What::Deleted => write!(f, "stream {stream} deleted"),
            What::ShardMoved { shard, log } => write!(f, "stream {stream}: shardId-{shard:012} goes on in log {log}"),
            What::ShardStays { shard, log } => write!(
                f,
                "stream {stream}: shardId-{shard:012} is not moved: its log {log} has failed meanwhile; it stays there, and takes records \
                 after a restart"
            ),
            What::Resharded { parents, children } => write!(f, "stream {stream}: {parents} -> {children}"),
            What::ParentsStay { parents } => write!(
                f,
                "stream {stream}: {parents} stay as they were: the log of a parent has failed during the split or merge; split or merge \
                 them after a restart"
            ),
        }
    }
}
