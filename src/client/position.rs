//! Where a consumer goes on: a text that can be kept anywhere and given back.

use super::error::Error;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Where reading goes on in one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// At this number; 0: at the oldest record.
    At(u64),
    /// All of it has been read, and nothing more comes.
    Ended,
}

/// Where a consumer goes on in each shard of a stream. As text: `stream:shard=number,shard=end`; shards that are not in it are read from their
/// oldest record on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The stream's number: a later stream of the name has another one.
    pub(super) stream: u32,
    pub(super) shards: BTreeMap<u32, Next>,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.stream)?;
        for (at, (shard, next)) in self.shards.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match next {
                Next::At(number) => write!(f, "{comma}{shard}={number}")?,
                Next::Ended => write!(f, "{comma}{shard}=end")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Position, Error> {
        let wrong = || Error::Position(format!("{text:?} is no position of a consumer: it would be like 1:0=17,1=end"));
        let (stream, rest) = text.split_once(':').ok_or_else(wrong)?;
        let stream = stream.parse().map_err(|_| wrong())?;
        let mut shards = BTreeMap::new();
        for part in rest.split(',').filter(|_| !rest.is_empty()) {
            let (shard, next) = part.split_once('=').ok_or_else(wrong)?;
            let next = match next {
                "end" => Next::Ended,
                number => Next::At(number.parse().map_err(|_| wrong())?),
            };
            if shards.insert(shard.parse().map_err(|_| wrong())?, next).is_some() {
                return Err(wrong());
            }
        }
        Ok(Position { stream, shards })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_from_its_text_and_other_texts_are_none() {
        for text in ["7:", "7:0=0", "1:0=17,1=end,4294967295=18446744073709551615"] {
            assert_eq!(text.parse::<Position>().expect("a position").to_string(), text);
        }
        for text in ["", "7", "7:0", "7:0=", "7:0=x", "x:0=1", "7:0=1,0=2", "7:0=1,", "7:0=-1", "4294967296:0=1"] {
            assert!(matches!(text.parse::<Position>(), Err(Error::Position(_))), "{text:?}");
        }
    }
}
