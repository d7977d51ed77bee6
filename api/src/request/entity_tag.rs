//! Entity tags in precondition headers (RFC 9110 §8.8.3, §13.1).

use http::{HeaderMap, HeaderName};

/// The value of a precondition header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tags {
    /// `*`: any version.
    Any,
    /// These tags.
    These(Vec<Tag>),
}

/// An entity tag. Bytes that are not UTF-8 are replaced, because no tag of this service has any.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    /// The text between the quotes.
    pub text: String,
    /// Whether it has the prefix `W/`.
    pub is_weak: bool,
}

impl Tags {
    /// Reads all lines of a header. Returns `None` if the header is absent.
    ///
    /// # Errors
    /// Fails if they are not a list of tags. A bare number counts as a tag without its quotes.
    pub(crate) fn read(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, NotTags> {
        let mut lines = headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
        let Some(first) = lines.next() else { return Ok(None) };
        let text = lines.fold(first.into_owned(), |text, line| text + "," + &line);
        if text.trim_matches(BLANKS) == "*" {
            return Ok(Some(Self::Any));
        }
        let mut tags = Vec::new();
        let mut rest = text.as_str();
        loop {
            // A list may have empty elements (RFC 9110 §5.6.1.2).
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                break;
            }
            let (tag, after) = Tag::read(rest).ok_or(NotTags)?;
            tags.push(tag);
            rest = after.trim_start_matches(BLANKS);
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err(NotTags);
            }
        }
        if tags.is_empty() { Err(NotTags) } else { Ok(Some(Self::These(tags))) }
    }

    /// Returns whether the list has this tag, by weak comparison (RFC 9110 §8.8.3.2).
    #[must_use]
    pub(crate) fn name(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|tag| tag.text == text),
        }
    }
}

/// The blanks allowed around an element.
const BLANKS: [char; 2] = [' ', '\t'];

/// The header is not a list of entity tags.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotTags;

impl Tag {
    /// Reads one tag, and returns it with the text after it.
    fn read(text: &str) -> Option<(Self, &str)> {
        let (is_weak, bare) = text.strip_prefix("W/").map_or((false, text), |rest| (true, rest));
        if let Some(quoted) = bare.strip_prefix('"') {
            let (text, after) = quoted.split_once('"')?;
            return Some((Self { text: text.into(), is_weak }, after));
        }
        let end = bare.find(|it: char| !it.is_ascii_digit()).unwrap_or(bare.len());
        let (number, after) = bare.split_at_checked(end).filter(|(number, _)| !number.is_empty())?;
        Some((Self { text: number.into(), is_weak }, after))
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    #[track_caller]
    fn check(lines: &[&[u8]], expected: Result<Option<&[&str]>, NotTags>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::IF_MATCH, HeaderValue::from_bytes(line).unwrap());
        }
        let read = Tags::read(&headers, &header::IF_MATCH).map(|tags| {
            tags.map(|tags| match tags {
                Tags::Any => vec!["*".to_owned()],
                Tags::These(tags) => {
                    let shown = |tag: Tag| format!("{}{}", if tag.is_weak { "W/" } else { "" }, tag.text);
                    tags.into_iter().map(shown).collect()
                }
            })
        });
        let expected = expected.map(|tags| tags.map(|tags| tags.iter().map(|it| (*it).to_owned()).collect()));
        assert_eq!(read, expected, "{lines:?}");
    }

    #[test]
    fn lists_are_read_as_the_grammar_says() {
        check(&[], Ok(None));
        check(&[b"*"], Ok(Some(&["*"])));
        check(&[b" * "], Ok(Some(&["*"])));
        check(&[b"\"3\""], Ok(Some(&["3"])));
        check(&[b"\"1\",W/\"2\" ,\t\"3\""], Ok(Some(&["1", "W/2", "3"])));
        check(&[b"\"1\"", b"\"2\", 3"], Ok(Some(&["1", "2", "3"])));
        check(&[b", ,\"5\""], Ok(Some(&["5"])));
        check(&[b"\"5\" ,, ", b""], Ok(Some(&["5"])));
        check(&[b"\"a,b\", \"5\""], Ok(Some(&["a,b", "5"])));
        check(&[b"\"\xe9\", \"\""], Ok(Some(&["\u{fffd}", ""])));
        check(&[b"W/3"], Ok(Some(&["W/3"])));
        let malformed: [&[u8]; 11] = [
            b"abc",
            b"\"1",
            b"",
            b" , ,",
            b"-1",
            b"\"1\" \"2\"",
            b"\"1\"2",
            b"*, \"1\"",
            b"w/\"1\"",
            b"1x",
            b"\xe9",
        ];
        for malformed in malformed {
            check(&[malformed], Err(NotTags));
        }
    }
}
