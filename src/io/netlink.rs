//! Questions to the kernel over generic netlink: a message is a head and attributes, each of them a length, a number and a value.

use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read};
use std::time::Duration;

/// The kernel answers at once; a driver may ask its firmware first.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer is that of the features: some sixty names.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Answers that belong to no question of ours, before the one that does.
const STRANGE_MAX: usize = 16;

const HEADER_BYTES: usize = 16;
const CONTROL: u16 = 0x10;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const ERROR: u16 = 2;
const NESTED: u16 = 0x8000;

/// A socket, and the number that the kernel has given the family.
pub struct Family {
    socket: Socket,
    number: u16,
    sequence: u32,
}

impl Family {
    /// The family with this name. An error of the kernel has its number: `EAFNOSUPPORT` where a sandbox lets nobody ask.
    pub fn open(name: &str) -> io::Result<Family> {
        let protocol = Protocol::from(libc::NETLINK_GENERIC);
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(protocol))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut family = Family { socket, number: CONTROL, sequence: 0 };
        let mut question = Vec::new();
        attribute(&mut question, CONTROL_FAMILY_NAME, &terminated(name));
        let answer = family.exchange(CONTROL_GET_FAMILY, 0, &question)?;
        let number = find(&answer, CONTROL_FAMILY_ID).and_then(|number| number.try_into().ok());
        family.number = u16::from_ne_bytes(number.ok_or_else(|| cut_short("a family without a number"))?);
        Ok(family)
    }

    /// The attributes of the answer to a question.
    pub fn ask(&mut self, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
        self.exchange(command, 0, attributes)
    }

    /// Has something changed, and waits until it is.
    pub fn change(&mut self, command: u8, attributes: &[u8]) -> io::Result<()> {
        self.exchange(command, ACKNOWLEDGE, attributes).map(|_| ())
    }

    /// Sends a message; gives the attributes of the answer, which an acknowledgement has none of.
    fn exchange(&mut self, command: u8, flags: u16, attributes: &[u8]) -> io::Result<Vec<u8>> {
        self.sequence += 1;
        let length = (HEADER_BYTES + 4 + attributes.len()) as u32;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend_from_slice(&self.number.to_ne_bytes());
        message.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(&[command, 1, 0, 0]);
        message.extend_from_slice(attributes);
        self.socket.send(&message)?;
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        for _ in 0..STRANGE_MAX {
            let length = (&self.socket).read(&mut buffer)?;
            if let Some(answer) = self.answer(&buffer[..length])? {
                return Ok(answer);
            }
        }
        Err(cut_short("other answers than the one that was asked for"))
    }

    /// The attributes of the answer; `None`: it is one to another question.
    fn answer(&self, datagram: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let number = |at: usize| datagram.get(at..at + 4).and_then(|part| part.try_into().ok()).map(u32::from_ne_bytes);
        let (Some(length), Some(sequence)) = (number(0), number(8)) else {
            return Err(cut_short("an answer without a head"));
        };
        if sequence != self.sequence {
            return Ok(None);
        }
        if datagram[4..6] == ERROR.to_ne_bytes() {
            return match number(HEADER_BYTES).map(u32::cast_signed) {
                Some(0) => Ok(Some(Vec::new())),
                Some(error) => Err(io::Error::from_raw_os_error(-error)),
                None => Err(cut_short("an error without a number")),
            };
        }
        let body = datagram.get(HEADER_BYTES + 4..length as usize);
        body.map(|body| Some(body.to_vec())).ok_or_else(|| cut_short("an answer that is cut short"))
    }
}

fn cut_short(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the kernel has sent {what}"))
}

/// A text as the kernel takes it.
pub fn terminated(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// One attribute that holds others.
pub fn nested(number: u16, inner: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    attribute(&mut out, number | NESTED, inner);
    out
}

/// Appends an attribute: its length, its number, its value, and zeros up to a multiple of four.
pub fn attribute(out: &mut Vec<u8>, number: u16, value: &[u8]) {
    let length = 4 + value.len() as u16;
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&number.to_ne_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The attributes of a message, up to the first that is none.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let number = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((number & !NESTED, value))
    })
}

/// The first attribute with this number.
pub fn find(bytes: &[u8], number: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(other, _)| *other == number).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_written_and_torn_ones_not() {
        let mut whole = Vec::new();
        attribute(&mut whole, 2, &terminated("eth0"));
        attribute(&mut whole, 5 | NESTED, &[]);
        attribute(&mut whole, 9, &7u32.to_ne_bytes());
        let read: Vec<(u16, &[u8])> = attributes(&whole).collect();
        assert_eq!(read, [(2, &b"eth0\0"[..]), (5, &[]), (9, &7u32.to_ne_bytes())]);
        for end in 0..whole.len() {
            assert!(attributes(&whole[..end]).count() < 3, "{end}");
        }
        assert_eq!(attributes(&[0; 64]).count(), 0, "a length of zero leads nowhere");
        assert_eq!(find(&whole, 9), Some(&7u32.to_ne_bytes()[..]));
    }
}
