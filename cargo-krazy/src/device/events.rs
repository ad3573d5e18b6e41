//! Server-sent events (WHATWG HTML, section 9.2), of which admind sends names and one-line data.

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its name; empty if it has none.
    pub(crate) name: String,
    /// Its data, lines joined by line feeds.
    pub(crate) data: String,
}

/// The longest line that is kept; what is longer is no log line of admind's, and is cut.
const MAX_LINE: usize = 1 << 20;

/// Takes pieces of a stream as they come and gives events.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    name: String,
    data: Option<String>,
}

impl Parser {
    /// The events that `bytes` complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    let line = String::from_utf8_lossy(&line);
                    events.extend(self.line(line.trim_end_matches('\r')));
                }
                byte if self.line.len() < MAX_LINE => self.line.push(byte),
                _ => {}
            }
        }
        events
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            return self.data.take().map(|data| Event { name, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.to_owned(),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // Comments keep the connection alive; other fields are for browsers.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pieces_become_events() {
        let mut parser = Parser::default();
        assert_eq!(parser.feed(b": hello\n\nevent:out\nda"), []);
        let event = |name: &str, data: &str| Event { name: name.into(), data: data.into() };
        assert_eq!(parser.feed(b"ta: a\r\ndata:b\n\n"), [event("out", "a\nb")]);
        assert_eq!(parser.feed(b"data:\n\nevent:x\n\n"), [event("", "")]);
    }

    proptest! {
        #[test]
        fn never_panics_and_pieces_do_not_matter(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..200usize) {
            let at = at.min(bytes.len());
            let whole = Parser::default().feed(&bytes);
            let mut parser = Parser::default();
            let mut parts = parser.feed(&bytes[..at]);
            parts.extend(parser.feed(&bytes[at..]));
            prop_assert_eq!(whole, parts);
        }
    }
}
