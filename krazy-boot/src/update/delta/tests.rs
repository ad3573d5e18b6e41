use proptest::prelude::*;

use super::*;

/// Applies `stream` to `base` in pieces of `piece` bytes.
fn apply(stream: &[u8], base: &[u8], size: u64, piece: usize) -> Result<Vec<u8>, DeltaError> {
    let mut decoder = Decoder::new(Bytes(size), Bytes(base.len() as u64));
    let mut out = Vec::new();
    for piece in stream.chunks(piece.max(1)) {
        decoder.feed(piece, &mut |step| {
            match step {
                Step::Data(data) => out.extend_from_slice(data),
                Step::Copy { offset, len } => {
                    assert!(len <= MAX_STEP);
                    out.extend_from_slice(&base[offset as usize..(offset + len) as usize]);
                }
                Step::Zero(len) => out.resize(out.len() + len as usize, 0),
            }
            Ok(())
        })?;
    }
    decoder.finish()?;
    Ok(out)
}

fn encoded(new: &[u8], base: &[u8]) -> (Vec<u8>, Encoded) {
    let mut stream = Vec::new();
    let encoded = encode(new, base, 1, &mut stream).unwrap();
    assert_eq!(encoded.stored, Bytes(stream.len() as u64));
    (stream, encoded)
}

/// Bytes that do not compress.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A frame of one raw block per piece.
fn frame(pieces: &[&[u8]]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x50];
    for (n, piece) in pieces.iter().enumerate() {
        let header = (piece.len() as u32) << 3 | u32::from(n + 1 == pieces.len());
        frame.extend(&header.to_le_bytes()[..3]);
        frame.extend_from_slice(piece);
    }
    frame
}

#[test]
fn golden_stream_is_decoded_in_any_pieces() {
    // "abc", three bytes from 300 on, 200 zeros.
    let operations = [1, 3, b'a', b'b', b'c', 2, 0xac, 0x02, 3, 3, 0xc8, 0x01, 0];
    let mut base = vec![0xee; 303];
    base[300..].copy_from_slice(b"xyz");
    let mut expected = b"abcxyz".to_vec();
    expected.resize(206, 0);
    for piece in [1, 2, 5, 100] {
        assert_eq!(apply(&frame(&[&operations]), &base, 206, piece).unwrap(), expected);
        let (head, tail) = operations.split_at(7);
        assert_eq!(apply(&frame(&[head, tail]), &base, 206, piece).unwrap(), expected);
    }
}

#[test]
fn damaged_streams_give_distinct_errors() {
    let refused =
        |operations: &[u8], size| apply(&frame(&[operations]), &[0; 10], size, 1000).unwrap_err().to_string();
    assert_eq!(refused(&[9], 5), "the stream is damaged: operation 9 does not exist");
    assert_eq!(refused(&[3, 6, 0], 5), "the stream yields more than the 5 B of the part");
    assert_eq!(refused(&[3, 4, 0], 5), "the stream yields 4 B, the part has 5 B");
    assert_eq!(refused(&[2, 8, 3, 0], 5), "the stream copies 3 bytes from 8 of a base of 10 B");
    let far = [2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 5, 0];
    assert!(refused(&far, 5).contains("of a base of 10 B"));
    let long = [3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0];
    assert_eq!(refused(&long, 5), "the stream is damaged: a number is too long");
    assert_eq!(refused(&[3, 5, 0, 0], 5), "data follows the end of the stream");
    assert_eq!(refused(&[3, 5], 5), "the stream ends early");
    let mut long = frame(&[&[3, 5, 0]]);
    long.push(0);
    assert!(matches!(apply(&long, &[], 5, 1000), Err(DeltaError::Trailing)));
    assert!(matches!(apply(&long[..long.len() - 2], &[], 5, 1000), Err(DeltaError::Truncated)));
    assert_eq!(
        apply(b"PK\x03\x04 not zstd", &[], 5, 3).unwrap_err().to_string(),
        "the stream is damaged: it is not a zstd frame"
    );
    // A window of 2 MiB.
    let mut wide = frame(&[&[3, 5, 0]]);
    wide[5] = 0x58;
    assert!(matches!(apply(&wide, &[], 5, 1000), Err(DeltaError::Frame(_))));
}

#[test]
fn disk_errors_are_passed_to_the_caller() {
    let (stream, _) = encoded(b"content", b"");
    let mut decoder = Decoder::new(Bytes(7), Bytes(0));
    let error = decoder.feed(&stream, &mut |_| Err(io::ErrorKind::StorageFull.into())).unwrap_err();
    assert!(matches!(error, DeltaError::Apply(source) if source.kind() == io::ErrorKind::StorageFull));
}

#[test]
fn moved_content_is_copied_from_the_base() {
    let base = noise(1 << 20, 1);
    let mut new = noise(5000, 2);
    new.extend(&base[300_001..900_000]);
    new.extend(noise(3000, 3));
    new.extend(&base[..300_001]);
    new.resize(new.len() + 200_000, 0);
    let (stream, encoded) = encoded(&new, &base);
    assert_eq!(encoded.copied, Bytes(900_000));
    assert!(stream.len() < 8300, "{} bytes for 8000 new ones", stream.len());
    assert_eq!(apply(&stream, &base, new.len() as u64, 4096).unwrap(), new);
    let (whole, _) = self::encoded(&new, b"");
    assert!(whole.len() < 910_000, "{} bytes", whole.len());
    assert_eq!(apply(&whole, b"", new.len() as u64, 65_536).unwrap(), new);
}

#[test]
fn repetitive_base_does_not_slow_down_the_search() {
    let base = vec![7; 4 << 20];
    let new: Vec<u8> = (0..4_u32 << 20).map(|n| if n % 40 == 0 { 8 } else { 7 }).collect();
    let (stream, _) = encoded(&new, &base);
    assert_eq!(apply(&stream, &base, new.len() as u64, 65_536).unwrap(), new);
}

proptest! {
    #[test]
    fn streams_survive_a_round_trip(
        base in prop::collection::vec(any::<u8>(), 0..2000),
        cuts in prop::collection::vec((0..2000usize, 0..400usize, prop::collection::vec(0..3u8, 0..60)), 0..8),
        piece in 1..3000usize,
    ) {
        let mut new = Vec::new();
        for (at, len, fresh) in cuts {
            let at = at.min(base.len());
            new.extend(&base[at..(at + len).min(base.len())]);
            new.extend(fresh);
        }
        let (stream, _) = encoded(&new, &base);
        prop_assert_eq!(apply(&stream, &base, new.len() as u64, piece).unwrap(), new);
    }

    #[test]
    fn damaged_streams_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        operations in prop::collection::vec(0..5u8, 0..40),
        at in 0..200usize,
        piece in 1..50usize,
    ) {
        let _refused = apply(&bytes, &[1; 100], 100, piece);
        let mut framed = frame(&[&operations]);
        let _either = apply(&framed, &[1; 100], 100, piece);
        let _either = apply(&frame(&[&bytes, &operations]), &[1; 100], 100, piece);
        let (mut good, _) = encoded(&noise(300, 5), &noise(100, 5));
        for stream in [&mut framed, &mut good] {
            let at = at.min(stream.len());
            let end = (at + bytes.len()).min(stream.len());
            stream[at..end].copy_from_slice(&bytes[..end - at]);
            let _either = apply(stream, &[1; 100], 300, piece);
        }
    }
}
