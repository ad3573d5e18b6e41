//! The lines in a stream of bytes.

/// The longest line in bytes; a longer one becomes several.
pub(crate) const MAX_LINE: usize = 4096;

/// Collects bytes until a line is complete.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes bytes and hands on every complete line, without its end.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.line(&bytes[..end], &mut each);
            if !self.partial.is_empty() || end == 0 {
                each(&self.partial);
                self.partial.clear();
            }
            bytes = &bytes[end + 1..];
        }
        self.line(bytes, &mut each);
        if self.partial.is_empty() {
            // Hundreds of quiet services should not each keep a buffer.
            self.partial = Vec::new();
        }
    }

    /// Hands on what was written without a line end, at the end of the stream.
    pub(crate) fn finish(&mut self, mut each: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            each(&self.partial);
            self.partial = Vec::new();
        }
    }

    /// Adds `bytes`, which hold no line end; hands on whole pieces of [`MAX_LINE`].
    fn line(&mut self, mut bytes: &[u8], each: &mut impl FnMut(&[u8])) {
        while self.partial.len() + bytes.len() > MAX_LINE {
            let (head, tail) = bytes.split_at(MAX_LINE - self.partial.len());
            self.partial.extend_from_slice(head);
            each(&self.partial);
            self.partial.clear();
            bytes = tail;
        }
        self.partial.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn collect(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        for chunk in chunks {
            lines.push(chunk, |line| all.push(line.to_vec()));
        }
        lines.finish(|line| all.push(line.to_vec()));
        all
    }

    #[test]
    fn lines_are_complete() {
        assert_eq!(collect(&[b"a\nb", b"c\n", b"\n", b"d"]), [&b"a"[..], b"bc", b"", b"d"]);
    }

    #[test]
    fn long_lines_are_cut() {
        let long = vec![b'x'; MAX_LINE * 2 + 10];
        let lengths: Vec<usize> = collect(&[&long, b"\n"]).iter().map(Vec::len).collect();
        assert_eq!(lengths, [MAX_LINE, MAX_LINE, 10]);
    }

    proptest! {
        #[test]
        fn chunks_of_any_size_give_the_same_lines(text in "[ab\n]{0,60}", cuts in proptest::collection::vec(0usize..60, 0..6)) {
            let bytes = text.as_bytes();
            let mut at: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let mut expected: Vec<Vec<u8>> = bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            prop_assert_eq!(collect(&chunks), expected);
        }
    }
}
