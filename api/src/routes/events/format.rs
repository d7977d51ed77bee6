//! The formats of events, and the choice among them by `Accept` (RFC 9110 §12.5.1).

use http::{HeaderMap, header};
use keyledger_projections::export;

use crate::answer::code::Code;
use crate::answer::problem::Problem;

/// A format of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A page of JSON.
    Json,
    /// A page, in the JSON batch format of CloudEvents 1.0.
    CloudEventsBatch,
    /// Server-sent events (WHATWG HTML §9.2).
    ServerSentEvents,
    /// A file, in a format that the replay tool also writes.
    File(export::Format),
}

impl Format {
    /// The values of `format`, with the media types of `Accept`. HTTP has no media type of its own for lines
    /// of CloudEvents or OCSF, so `Accept` cannot name files of them.
    const TABLE: [(Self, &'static str, Option<&'static str>); 7] = [
        (Self::Json, "json", Some("application/json")),
        (Self::CloudEventsBatch, "cloudevents-batch", Some("application/cloudevents-batch+json")),
        (Self::ServerSentEvents, "sse", Some("text/event-stream")),
        (Self::File(export::Format::NdJson), "ndjson", Some("application/x-ndjson")),
        (Self::File(export::Format::Csv), "csv", Some("text/csv")),
        (Self::File(export::Format::CloudEvents), "cloudevents", None),
        (Self::File(export::Format::Ocsf), "ocsf", None),
    ];

    /// Returns the format with this name.
    #[must_use]
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Returns the format that `Accept` prefers, or JSON without `Accept`. Among formats of equal quality,
    /// the first one wins.
    ///
    /// # Errors
    /// `not_acceptable`.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges: Vec<Range> =
            accepted.flat_map(|value| value.split(',')).filter_map(Range::read).collect();
        if ranges.is_empty() {
            return Ok(Self::Json);
        }
        let mut best: Option<(Self, u16, usize)> = None;
        for format in Self::BY_ACCEPT {
            let matching = ranges.iter().enumerate().filter(|(_, range)| range.precision(format) > 0);
            // The most precise range for a format gives its quality.
            let Some((place, range)) = matching.max_by_key(|(_, range)| range.precision(format)) else {
                continue;
            };
            let is_better = best.is_none_or(|(_, quality, before)| {
                range.quality > quality || range.quality == quality && place < before
            });
            if range.quality > 0 && is_better {
                best = Some((format, range.quality, place));
            }
        }
        best.map(|(format, ..)| format).ok_or_else(|| Problem::of(Code::NotAcceptable))
    }

    /// The formats that `Accept` can name. A range of types stands for the first one in it.
    const BY_ACCEPT: [Self; 5] = [
        Self::Json,
        Self::File(export::Format::Csv),
        Self::File(export::Format::NdJson),
        Self::CloudEventsBatch,
        Self::ServerSentEvents,
    ];

    /// Returns the value of `Content-Type`.
    #[must_use]
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::CloudEventsBatch => "application/cloudevents-batch+json",
            Self::ServerSentEvents => "text/event-stream",
            Self::File(format) => format.media_type(),
        }
    }
}

/// A range of media types in `Accept`.
struct Range {
    essence: String,
    /// In thousandths. 0 is not acceptable.
    quality: u16,
}

impl Range {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().filter(|it| !it.is_empty())?.to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let weight = weight.and_then(|weight| weight.parse::<f32>().ok()).unwrap_or(1.0);
        // The cast saturates, so numbers outside 0 to 1 count as a bound.
        Some(Self { essence, quality: (weight * 1_000.0) as u16 })
    }

    /// Returns how precisely it names a format: 0 not at all, 1 as any type, 2 by its main type, 3 by its
    /// full type.
    fn precision(&self, format: Format) -> u8 {
        let media_type = format.media_type();
        let media_type = media_type.split(';').next().unwrap_or_default();
        let kind = media_type.split('/').next().unwrap_or_default();
        match self.essence.as_str() {
            essence if essence == media_type => 3,
            "application/problem+json" if format == Format::Json => 3,
            // A stream that never ends is only for clients that ask for its type.
            _ if format == Format::ServerSentEvents => 0,
            "*/*" => 1,
            essence if essence.strip_suffix("/*") == Some(kind) => 2,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_chooses_the_format() {
        let of = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, http::HeaderValue::from_static(accept));
            Format::of(&headers).ok()
        };
        assert_eq!(of("*/*"), Some(Format::Json));
        assert_eq!(of("text/event-stream"), Some(Format::ServerSentEvents));
        assert_eq!(of("image/png, application/x-ndjson;q=0.9"), Some(Format::File(export::Format::NdJson)));
        assert_eq!(of("text/csv"), Some(Format::File(export::Format::Csv)));
        assert_eq!(of("application/cloudevents-batch+json"), Some(Format::CloudEventsBatch));
        assert_eq!(of("image/png"), None);
        assert_eq!(of("text/*"), Some(Format::File(export::Format::Csv)));
        assert_eq!(of("text/csv;q=0"), None);
        assert_eq!(of("text/csv;q=0, */*"), Some(Format::Json));
        assert_eq!(of("application/json;q=0.1, text/csv;q=0.2"), Some(Format::File(export::Format::Csv)));
        assert_eq!(of("application/json;q=0, */*;q=0.5"), Some(Format::File(export::Format::Csv)));
        assert_eq!(of("text/csv, application/json"), Some(Format::File(export::Format::Csv)));
        assert_eq!(of("text/*, text/event-stream;q=0.5"), Some(Format::File(export::Format::Csv)));
    }

    #[test]
    fn a_file_has_one_name_everywhere() {
        for format in export::Format::ALL {
            assert_eq!(Format::from_name(format.as_str()), Some(Format::File(format)));
        }
        assert_eq!(Format::from_name("NDJSON"), None);
    }
}
