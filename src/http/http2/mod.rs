//! What both ends of HTTP/2 have in common: frames as bytes, and blocks of headers. The server's end is in `front/http2`, a client's in
//! `load/http2.rs`.

pub mod frame;
pub mod hpack;
mod huffman;
