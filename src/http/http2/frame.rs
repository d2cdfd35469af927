//! Frames of HTTP/2 as bytes (RFC 9113, sections 4 and 6).

/// Bytes in front of every frame's payload.
pub const HEAD: usize = 9;
/// Frames are no longer than this until the other side has said otherwise.
pub const LEN_FIRST: u32 = 16 << 10;
/// The window of a stream, and of a connection, until somebody has said otherwise.
pub const WINDOW_FIRST: i64 = 65_535;
/// No window may become larger.
pub const WINDOW_MAX: i64 = (1 << 31) - 1;
/// Streams have numbers of 31 bits.
pub const STREAM_MAX: u32 = (1 << 31) - 1;

pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const PRIORITY: u8 = 0x20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    Push,
    Ping,
    GoAway,
    Window,
    Continuation,
    /// To be passed over (RFC 9113, 5.5).
    Unknown,
}

/// Kinds by their number, which is also that of the variant.
const KINDS: [Kind; 10] = [
    Kind::Data,
    Kind::Headers,
    Kind::Priority,
    Kind::Reset,
    Kind::Settings,
    Kind::Push,
    Kind::Ping,
    Kind::GoAway,
    Kind::Window,
    Kind::Continuation,
];

/// Why a stream or a connection ends (RFC 9113, section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    None = 0,
    Protocol = 1,
    Internal = 2,
    FlowControl = 3,
    StreamClosed = 5,
    FrameSize = 6,
    Refused = 7,
    Cancel = 8,
    Compression = 9,
    EnhanceYourCalm = 11,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    HeaderTableSize = 1,
    EnablePush = 2,
    MaxStreams = 3,
    InitialWindow = 4,
    MaxFrame = 5,
    MaxHeaderList = 6,
}

/// What stands in front of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub len: u32,
    pub kind: Kind,
    pub flags: u8,
    /// 0: the connection.
    pub stream: u32,
}

impl Head {
    /// `None`: `bytes` hold less than a head.
    pub fn read(bytes: &[u8]) -> Option<Head> {
        let bytes = bytes.first_chunk::<HEAD>()?;
        let kind = KINDS.get(bytes[3] as usize).copied().unwrap_or(Kind::Unknown);
        let len = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        Some(Head { len, kind, flags: bytes[4], stream: number(&bytes[5..]) & STREAM_MAX })
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The head of a frame to be sent.
pub fn head(len: usize, kind: Kind, flags: u8, stream: u32) -> [u8; HEAD] {
    let (len, kind, stream) = ((len as u32).to_be_bytes(), kind as u8, stream.to_be_bytes());
    [len[1], len[2], len[3], kind, flags, stream[0], stream[1], stream[2], stream[3]]
}

pub fn put(out: &mut Vec<u8>, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&head(payload.len(), kind, flags, stream));
    out.extend_from_slice(payload);
}

pub fn put_reset(out: &mut Vec<u8>, stream: u32, code: Code) {
    put(out, Kind::Reset, 0, stream, &(code as u32).to_be_bytes());
}

/// `stream` 0: of the connection.
pub fn put_window(out: &mut Vec<u8>, stream: u32, more: u32) {
    put(out, Kind::Window, 0, stream, &more.to_be_bytes());
}

pub fn put_go_away(out: &mut Vec<u8>, last: u32, code: Code) {
    let payload = [last.to_be_bytes(), (code as u32).to_be_bytes()];
    put(out, Kind::GoAway, 0, 0, payload.as_flattened());
}

pub fn put_settings(out: &mut Vec<u8>, settings: &[(Setting, u32)]) {
    out.extend_from_slice(&head(settings.len() * 6, Kind::Settings, 0, 0));
    for (setting, value) in settings {
        out.extend_from_slice(&(*setting as u16).to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// The settings of a payload of whole ones; those that are not known are passed over.
pub fn settings(payload: &[u8]) -> impl Iterator<Item = (Setting, u32)> {
    use Setting::*;
    const ALL: [Setting; 6] = [HeaderTableSize, EnablePush, MaxStreams, InitialWindow, MaxFrame, MaxHeaderList];
    payload.chunks_exact(6).filter_map(|bytes| {
        let name = u16::from_be_bytes([bytes[0], bytes[1]]);
        let setting = ALL.into_iter().find(|setting| *setting as u16 == name)?;
        Some((setting, number(&bytes[2..])))
    })
}

/// The number at the beginning of at least 4 bytes.
pub fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_come_back() {
        for kind in KINDS {
            let head = Head { len: 0x12_3456, kind, flags: 0x25, stream: 0x7654_3210 };
            assert_eq!(Head::read(&super::head(0x12_3456, kind, 0x25, 0x7654_3210)), Some(head));
        }
        assert_eq!(
            Head::read(b"\0\0\x01\xc0\0\xff\xff\xff\xff").map(|head| (head.kind, head.stream)),
            Some((Kind::Unknown, STREAM_MAX))
        );
        assert_eq!(Head::read(&[0; HEAD - 1]), None);
    }

    #[test]
    fn settings_come_back() {
        let mut out = Vec::new();
        put_settings(&mut out, &[(Setting::InitialWindow, 70_000), (Setting::MaxStreams, 1)]);
        out.extend_from_slice(b"\0\x99\0\0\0\x01");
        let read: Vec<(Setting, u32)> = settings(&out[HEAD..]).collect();
        assert_eq!(read, [(Setting::InitialWindow, 70_000), (Setting::MaxStreams, 1)]);
    }
}
