//! Looks for a `Content-Length` in the bytes of a request's head.
//!
//! A request with `Content-Length` and `Transfer-Encoding` may be an attempt to make two servers disagree on
//! where it ends, so it is refused (RFC 9112 §6.3). hyper drops the `Content-Length` of such a request
//! without a trace, which is why the bytes are searched on their way to hyper.

const NAME: &[u8] = b"content-length";

/// What was seen of a head so far.
#[derive(Default)]
pub(crate) struct HeadScan {
    /// How much of the current line was seen, and whether all of it is the beginning of [`NAME`].
    line_len: usize,
    is_name: bool,
    /// Whether the request line was seen, before which there may be empty lines.
    has_begun: bool,
    has_ended: bool,
    has_content_length: bool,
}

impl HeadScan {
    /// Begins with the next head.
    pub(crate) fn restart(&mut self) {
        *self = Self::default();
    }

    /// Whether the head has a `Content-Length`.
    pub(crate) const fn has_content_length(&self) -> bool {
        self.has_content_length
    }

    /// Reads the next bytes, up to the end of the head.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                _ if self.has_ended => return,
                b'\n' => {
                    self.has_ended = self.has_begun && self.line_len == 0;
                    self.has_begun |= self.line_len > 0;
                    (self.line_len, self.is_name) = (0, self.has_begun);
                }
                b'\r' => {}
                b':' if self.is_name && self.line_len == NAME.len() => {
                    self.has_content_length = true;
                    self.is_name = false;
                }
                byte => {
                    let expected = NAME.get(self.line_len);
                    self.is_name &= expected.is_some_and(|expected| byte.eq_ignore_ascii_case(expected));
                    self.line_len += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(pieces: &[&[u8]]) -> bool {
        let mut scan = HeadScan::default();
        pieces.iter().for_each(|piece| scan.read(piece));
        scan.has_content_length()
    }

    #[test]
    fn the_length_is_found_however_the_head_is_split() {
        for (head, expected) in [
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", true),
            ("POST / HTTP/1.1\ncontent-LENGTH:3\n\nabc", true),
            ("\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nX-Content-Length: 3\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nContent-Lengths: 3\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nHost: content-length: 3\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nHost: a\r\n\r\ncontent-length: 3\r\n\r\n", false),
            ("content-length: / HTTP/1.1\r\n\r\n", false),
        ] {
            let bytes = head.as_bytes();
            assert_eq!(finds(&[bytes]), expected, "{head}");
            assert_eq!(finds(&bytes.chunks(1).collect::<Vec<_>>()), expected, "{head}, byte by byte");
            for at in 0..bytes.len() {
                assert_eq!(finds(&[&bytes[..at], &bytes[at..]]), expected, "{head}, in two at {at}");
            }
        }
    }
}
