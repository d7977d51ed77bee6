//! Decorative icons. The text beside an icon carries the meaning, so screen readers skip icons.

use std::fmt;

/// An SVG path in a 16 × 16 view box.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Icon(&'static str);

impl Icon {
    pub(crate) const KEY: Self = Self("M10.5 2.5a3 3 0 1 1-2.6 4.5L2.5 12.4V14H5v-1.5h1.5V11l2-2M11 5h.01");
    pub(crate) const TEST: Self =
        Self("M6 2v5L2.8 12.6A1 1 0 0 0 3.7 14h8.6a1 1 0 0 0 .9-1.4L10 7V2M5 2h6M4.6 10h6.8");
    pub(crate) const MORE: Self = Self("M3.5 8h.01M8 8h.01M12.5 8h.01");
    pub(crate) const SEARCH: Self = Self("M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10Zm3.6-1.4L14 14");
    pub(crate) const PLUS: Self = Self("M8 3v10M3 8h10");
    pub(crate) const CLOSE: Self = Self("m4 4 8 8M12 4l-8 8");
    pub(crate) const SWITCH: Self = Self("m5 6 3-3 3 3M5 10l3 3 3-3");
    pub(crate) const MENU: Self = Self("M2.5 4.5h11M2.5 8h11M2.5 11.5h11");
    pub(crate) const SIGN_OUT: Self = Self("M6 2.5H3.5v11H6M10.5 5l3 3-3 3M13.2 8H6.5");
    pub(crate) const SUN: Self = Self(
        "M8 10.8a2.8 2.8 0 1 0 0-5.6 2.8 2.8 0 0 0 0 5.6ZM8 1.5v1M8 13.5v1M1.5 8h1M13.5 8h1M3.4 3.4l.7.7M11.9 11.9l.7.7M12.6 3.4l-.7.7M4.1 11.9l-.7.7",
    );
    pub(crate) const MOON: Self = Self("M13 9.3A5.5 5.5 0 0 1 6.7 3a5.5 5.5 0 1 0 6.3 6.3Z");
    pub(crate) const SCREEN: Self = Self("M2 3h12v8H2zM6 14h4M8 11v3");
    pub(crate) const COPY: Self = Self("M6 6h7.5v7.5H6zM3.5 10H2.5V2.5H10v1");
    pub(crate) const TICK: Self = Self("m3 8.5 3.5 3.5L13 4.5");
    pub(crate) const WARNING: Self = Self("M8 2.2 14.5 13.5h-13zM8 6.5v3.5M8 12h.01");
    pub(crate) const CLOCK: Self = Self("M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12ZM8 4.8V8l2.2 1.6");
    pub(crate) const ROTATE: Self =
        Self("M13.5 6.5A5.8 5.8 0 0 0 3 5M2.5 2.5V5.3h2.8M2.5 9.5A5.8 5.8 0 0 0 13 11M13.5 13.5v-2.8h-2.8");
    pub(crate) const STOP: Self = Self("M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12ZM3.8 3.8l8.4 8.4");
    pub(crate) const BIN: Self = Self("M2.5 4h11M6 4V2.5h4V4M4 4l.7 9.5h6.6L12 4M6.7 6.5v4.5M9.3 6.5v4.5");
    pub(crate) const PENCIL: Self = Self("m10.5 2.8 2.7 2.7L5.5 13.2l-3.3.6.6-3.3z");
    pub(crate) const DOWNLOAD: Self = Self("M8 2v8M4.8 7 8 10.2 11.2 7M2.5 13.5h11");
    pub(crate) const UNDO: Self = Self("M5.5 2.5 2.5 5.5l3 3M2.8 5.5h6.7a4 4 0 0 1 0 8H6");
    pub(crate) const LOG: Self = Self("M3.5 2h9v12h-9zM6 5.5h4M6 8h4M6 10.5h2.5");
    pub(crate) const CHART: Self = Self("M2.5 13.5h11M4.5 11V8M8 11V4M11.5 11V6");
    pub(crate) const BOX: Self = Self("m8 2 5.5 3v6L8 14l-5.5-3V5zM2.5 5 8 8l5.5-3M8 8v6");
    pub(crate) const BUILDING: Self = Self("M3.5 14V2h6v12M9.5 6h3v8M2 14h12M5.5 5h2M5.5 8h2M5.5 11h2");
    pub(crate) const SHIELD: Self = Self("M8 1.8 13 3.5V8c0 3-2 5-5 6.2C5 13 3 11 3 8V3.5z");
    pub(crate) const PLUG: Self = Self("M5.5 2v3M10.5 2v3M3.5 5h9v2.5a4.5 4.5 0 0 1-9 0zM8 12v2.5");
    pub(crate) const WINDOW: Self = Self("M2 3h12v10H2zM2 6h12M4 4.5h.01");
    pub(crate) const PEOPLE: Self = Self(
        "M6 7.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM1.8 13.5a4.2 4.2 0 0 1 8.4 0M10.5 3a2.3 2.3 0 0 1 0 4.2M12 9.8a4 4 0 0 1 2.3 3.7",
    );
}

impl fmt::Display for Icon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            r#"<svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false"><path d="{}"/></svg>"#,
            self.0
        )
    }
}

/// The constants above are the only values.
impl askama::filters::HtmlSafe for Icon {}
