//! The bytes of the log.

/// A shard in frames: stream number in the high half, shard number in the low half.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(PartialEq, Eq, PartialOrd, Ord))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardKey(pub u64);

impl ShardKey {
    pub const fn new(stream: u32, shard: u32) -> ShardKey {
        ShardKey((stream as u64) << 32 | shard as u64)
    }
    pub const fn stream(self) -> u32 {
        (self.0 >> 32) as u32
    }
    pub const fn shard(self) -> u32 {
        self.0 as u32
    }
}

/// A byte of a log: incarnation of its segment × segment size + byte in the file. Never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);
