//! The files that pages load: style sheet, scripts and icon. They are embedded in the binary and served at
//! addresses that change with their content, so browsers cache them permanently.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};

use crate::answer::code::Code;
use crate::answer::problem::Problem;
use keyledger_engine::crypto::sha256::Sha256;

const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Declares the files by name and media type.
macro_rules! assets {
    ($($name:literal $media_type:expr;)*) => {
        const ASSETS: &[(&str, &str, &[u8])] =
            &[$(($name, $media_type, include_bytes!(concat!("../../../assets/", $name)))),*];
    };
}

assets! {
    "console.css" CSS;
    "console.js" SCRIPT;
    "icon.svg" "image/svg+xml";
    "live/countdown.js" SCRIPT;
    "live/follow.js" SCRIPT;
    "live/live.js" SCRIPT;
    "live/news.js" SCRIPT;
    "live/refresh.js" SCRIPT;
    "parts/copy.js" SCRIPT;
    "parts/dialog.js" SCRIPT;
    "parts/offers.js" SCRIPT;
    "parts/popover.js" SCRIPT;
    "parts/selection.js" SCRIPT;
    "parts/sheet.js" SCRIPT;
    "parts/shortcuts.js" SCRIPT;
    "parts/switcher.js" SCRIPT;
    "parts/toast.js" SCRIPT;
    "parts/token.js" SCRIPT;
}

/// The directory of all files and its version. They share one version, so that a script imports the
/// others of its version by relative path.
static DIRECTORY: LazyLock<(String, String)> = LazyLock::new(|| {
    let mut digest = Sha256::new();
    for (name, _, bytes) in ASSETS {
        digest.update(name);
        digest.update(bytes);
    }
    let version: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    (format!("/console/assets/{version}"), version)
});

/// Returns the path of the directory, without a trailing slash.
pub(crate) fn directory() -> &'static str {
    &DIRECTORY.0
}

/// Serves a file.
pub(crate) async fn serve(Path((version, name)): Path<(String, String)>) -> Response {
    let found = ASSETS.iter().find(|asset| asset.0 == name).filter(|_| version == DIRECTORY.1);
    let Some((_, media_type, bytes)) = found else {
        return Problem::of(Code::NotFound).into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
    ];
    (headers, *bytes).into_response()
}
