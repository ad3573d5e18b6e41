//! SHA-256 as hexadecimal text, the form in which digests are stored, compared and shown.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of what `reader` still has, in hex.
pub fn sha256_of(reader: &mut impl Read) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Whether `text` is a SHA-256 as this program writes it.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lower_case_hex_of_full_length_is_a_digest() {
        assert!(is_sha256(&hex(&[0xab; 32])));
        for wrong in ["".to_owned(), "ab".repeat(31), "AB".repeat(32), "é".repeat(32)] {
            assert!(!is_sha256(&wrong), "{wrong}");
        }
    }

    /// FIPS 180-4's example, as published by NIST.
    #[test]
    fn matches_the_published_example() {
        let digest = sha256_of(&mut b"abc".as_slice()).unwrap();
        assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
