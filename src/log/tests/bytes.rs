//! The formats: golden bytes, and what the decoders make of anything else.

use super::*;
use crate::log::format::{CommitHeader, CommitKind, FrameHeader, Trailer};
use crate::log::inspect::inspect_segment;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn frame() -> FrameHeader {
    FrameHeader {
        kind: FrameKind::Batch,
        stride: 192,
        body: 100,
        count: 3,
        shard: ShardKey::new(0x0102, 0x0304),
        sequence: 0x1111_2222_3333,
        arrival: 1_700_000_000_000_000,
        producer: 0xabcd_0007,
        number: 9,
        incarnation: 5,
        body_crc: 0xdead_beef,
    }
}

fn commit() -> CommitHeader {
    CommitHeader {
        kind: CommitKind::Data,
        bytes: 4096,
        position: Position(5 << 16),
        durable: Position((5 << 16) - 4096),
        epoch: 7,
        incarnation: 5,
        log: 3,
        frames: 1,
        previous: 0x0bad_cafe,
        directory: 0x1234_5678_9abc_def0,
    }
}

#[test]
fn headers_are_these_bytes() {
    let mut bytes = vec![0; 4096];
    frame().encode((&mut bytes[64..128]).try_into().unwrap());
    commit().seal(&mut bytes);
    assert_eq!(
        hex(&bytes[64..128]),
        "70660101c000000064000000030000000403000002010000333322221111000000401e18240a06000700cdab000000000900\
         000005000000efbeadde933bb675"
    );
    assert_eq!(
        hex(&bytes[..64]),
        "7043010100100000000005000000000000f004000000000007000000050000000300000001000000fecaad0b00000000f0debc9a78563412000000001f4a9a11"
    );
    let mut trailer = [0; 64];
    let fields = Trailer { directory: 1, incarnation: 2, log: 3, start: 4096, length: 5, footer_crc: 6 };
    fields.encode(&mut trailer);
    assert_eq!(
        hex(&trailer),
        "7067467402000000010000000000000002000000030000000010000000000000050000000000000006000000000000000000000000000000000000005c2fef2c"
    );
    assert_eq!(Trailer::decode(&trailer), Ok(fields));
}

#[test]
fn a_body_is_these_bytes() {
    let mut body = vec![0; body_size(8, 2)];
    body[..8].copy_from_slice(b"k1abk2cd");
    write_index(&mut body, 8, &[Entry::new(0, Some(2), 2), Entry::new(6, None, 2)]);
    assert_eq!(hex(&body[8..]), "0000000002000000020000000000000006000000020000000000010000000000e0ffffff02000000");
    let read: Vec<_> = records(&body, 2).unwrap().map(|r| (r.ordinal, r.key, r.data)).collect();
    assert_eq!(read, [(0, Some(&b"k1"[..]), &b"ab"[..]), (1, None, &b"cd"[..])]);
    assert_eq!(records(&body, 2).unwrap().after(1).next().unwrap().ordinal, 1);
}

#[test]
fn headers_come_back_and_any_changed_bit_is_noticed() {
    let mut bytes = vec![0; 4096];
    frame().encode((&mut bytes[64..128]).try_into().unwrap());
    let sum = commit().seal(&mut bytes);
    assert_eq!(CommitHeader::decode(&bytes), Ok((commit(), sum)));
    assert_eq!(commit().frames(&bytes).collect::<Vec<_>>(), [Ok((64, frame()))]);
    for bit in 0..128 * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let whole = CommitHeader::decode(&changed);
        let frames: Result<Vec<_>, _> = commit().frames(&changed).collect();
        assert!(whole.is_err() || frames.is_err(), "bit {bit}: {whole:?}");
    }
}

#[test]
fn no_body_makes_the_reader_of_indexes_panic() {
    let mut random = Random(5);
    let mut body = vec![0; body_size(40, 3)];
    write_index(&mut body, 40, &[Entry::new(0, Some(4), 6), Entry::new(10, Some(0), 0), Entry::new(10, None, 30)]);
    for round in 0..20_000u32 {
        let mut changed = body.clone();
        for _ in 0..1 + random.below(4) {
            let at = 40 + random.below(changed.len() as u64 - 40) as usize;
            changed[at] = random.next() as u8;
        }
        let cut = if round % 7 == 0 { random.below(changed.len() as u64 + 1) as usize } else { changed.len() };
        let count = if round % 5 == 0 { random.next() as u32 } else { 3 };
        if let Ok(read) = records(&changed[..cut], count) {
            assert!(read.map(|record| record.data.len()).all(|len| len <= 40));
        }
    }
}

#[test]
fn a_segment_is_printed_for_a_person() {
    let mut rig = Rig::new(false);
    rig.boot();
    rig.append(0, 3, 100);
    rig.append(4, 1, 5000);
    rig.settle();
    rig.idle_ms(60);
    let file = rig.segment_files()[0];
    let mut bytes = rig.disk.files[&file].bytes.clone();
    let print = |bytes: &[u8]| {
        let mut out = String::new();
        inspect_segment(&mut std::io::Cursor::new(bytes), true, &mut out).unwrap();
        out
    };
    let text = print(&bytes);
    assert!(text.contains("data         8192 bytes  incarnation 1  epoch 1"), "{text}");
    assert!(text.contains("stream 7 shard 0  records 1..4"), "{text}");
    assert!(text.contains("vouch"), "{text}");
    assert!(text.contains("2 commits, 2 frames, 12288 bytes, 0 commits damaged"), "{text}");
    assert!(text.contains("no footer: the segment was not sealed"), "{text}");
    bytes[200] ^= 1;
    assert!(print(&bytes).contains("DAMAGED: checksum of the body"), "{}", print(&bytes));
    bytes[200] ^= 1;
    // A header that names another directory, or a longer commit, does not hide what stands behind it.
    for (byte, bit) in [(48, 1), (5, 0x10)] {
        bytes[byte] ^= bit;
        let text = print(&bytes);
        assert!(text.contains("vouch") && text.contains("1 commits damaged"), "{text}");
        bytes[byte] ^= bit;
    }
    print(&bytes[..100]);
    print(&[]);
}
