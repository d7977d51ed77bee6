//! The pages to which a problem's `type` links.

use std::fmt::Write;

use http::StatusCode;

use super::html::{Place, escape, frame, prose, status};
use crate::answer::code::Code;
use crate::answer::problem::Problem;

/// Returns the page of all problems.
pub(super) fn index() -> String {
    let mut content = String::from(
        "<header class=\"intro\">\n<h1>Problems</h1>\n<p class=\"lead\">What each error means, and what to \
        do.</p>\n<p>Errors are <code>application/problem+json</code>, as RFC 9457 says. <code>code</code> is \
        for programs and never changes; <code>detail</code> says what was wrong in this request; \
        <code>request_id</code> identifies the request in the service's log.</p>\n</header>\n",
    );
    for (group, codes) in by_status() {
        let number = group.as_str();
        let _ = writeln!(
            content,
            "<section class=\"problems\" aria-labelledby=\"status-{number}\">\n<h2 \
            id=\"status-{number}\">{}</h2>\n<ul>",
            status(number)
        );
        for code in codes {
            let _ = writeln!(
                content,
                "<li><a href=\"/problems/{name}\"><code>{name}</code></a><span>{}.</span></li>",
                escape(code.title()),
                name = escape(code.as_str()),
            );
        }
        content.push_str("</ul>\n</section>\n");
    }
    frame(Place::Problems, "Problems", "What each problem means and what to do.", &navigation(None), &content)
}

/// Returns the page of one problem.
pub(super) fn one(code: Code) -> String {
    let name = escape(code.as_str());
    let example =
        serde_json::to_value(Problem::of(code).body("01KAJX7Q5M3J6S2Y9W8V4T1R0P")).unwrap_or_default();
    let content = format!(
        "<article class=\"problem\">\n<p class=\"crumbs\"><a href=\"/problems\">Problems</a></p>\n<h1>{}\
         </h1>\n\
         <p class=\"line\">{} <code>{name}</code></p>\n<h2>What it means, and what to do</h2>\n<p \
         class=\"lead\">{}</p>\n\
         <h2>Example answer</h2>\n<figure>\n<figcaption>application/problem+json</figcaption>\n\
         <pre tabindex=\"0\" role=\"region\" aria-label=\"Example\"><code>{}</code></pre>\n</figure>\n\
         <p class=\"note\">If the problem persists, search the service's log for the answer's \
         <code>request_id</code>, which is \
         also in the header <code>X-Request-Id</code>.</p>\n</article>\n",
        escape(code.title()),
        status(code.status().as_str()),
        prose(code.help()),
        escape(&format!("{example:#}")),
    );
    frame(Place::Problem, code.title(), code.help(), &navigation(Some(code)), &content)
}

fn navigation(current: Option<Code>) -> String {
    let mut html = String::new();
    for (group, codes) in by_status() {
        let number = group.as_str();
        let word = group.canonical_reason().unwrap_or("");
        let _ = writeln!(
            html,
            "<p class=\"group\"><a href=\"/problems#status-{number}\">{number} {}</a></p>\n<ul>",
            escape(word)
        );
        for code in codes {
            let mark = if current == Some(code) { " aria-current=\"page\"" } else { "" };
            let name = escape(code.as_str());
            let _ = writeln!(
                html,
                "<li><a class=\"endpoint\" href=\"/problems/{name}\"{mark}><span \
                class=\"path\">{name}</span></a></li>"
            );
        }
        html.push_str("</ul>\n");
    }
    html
}

/// Returns the codes of each status, lowest status first.
fn by_status() -> Vec<(StatusCode, Vec<Code>)> {
    let mut groups: Vec<(StatusCode, Vec<Code>)> = Vec::new();
    for code in Code::ALL {
        match groups.iter_mut().find(|(status, _)| *status == code.status()) {
            Some((_, codes)) => codes.push(*code),
            None => groups.push((code.status(), vec![*code])),
        }
    }
    groups.sort_by_key(|(status, _)| status.as_u16());
    groups
}
