//! The page of all endpoints.

use std::fmt::Write;

use serde_json::Value;

use super::example;
use super::html::{Place, escape, frame, paragraphs, path, prose, status};
use super::typed_document::{
    Endpoint, Field, anchor, bounds, capitalized, fields, is_nullable, json_schema, name_of, object_anchor,
    object_title, parameter, schemas, tags, text, type_html,
};

/// Returns the page that shows the document.
pub(super) fn render(document: &Value) -> String {
    let tags = tags(document);
    let mut navigation = String::new();
    let mut content = introduction(document);
    for (name, description, endpoints) in &tags {
        let id = tag_anchor(name);
        let _ = writeln!(navigation, "<p class=\"group\"><a href=\"#{id}\">{}</a></p>\n<ul>", escape(name));
        let _ = writeln!(
            content,
            "<section class=\"tag\" aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{}</h2>\n<p \
            class=\"lead\">{}</p>",
            escape(name),
            prose(&sentence(description))
        );
        for endpoint in endpoints {
            let _ = writeln!(
                navigation,
                "<li><a class=\"endpoint\" href=\"#{}\">{}<span class=\"path\">{}</span></a></li>",
                endpoint.anchor(),
                badge(endpoint),
                path(endpoint.path)
            );
            content.push_str(&article(document, endpoint));
        }
        navigation.push_str("</ul>\n");
        content.push_str("</section>\n");
    }
    navigation.push_str("<p class=\"group\"><a href=\"#objects\">Objects</a></p>\n<ul>\n");
    content
        .push_str("<section class=\"tag\" aria-labelledby=\"objects\">\n<h2 id=\"objects\">Objects</h2>\n");
    content.push_str("<p class=\"lead\">The objects in answers.</p>\n");
    let bodies: Vec<&str> =
        tags.iter().flat_map(|(_, _, endpoints)| endpoints).filter_map(|it| name_of(it.body()?.0)).collect();
    for (name, schema) in schemas(document).filter(|(_, schema)| !fields(document, schema).is_empty()) {
        // The body of a single endpoint is shown with the endpoint.
        let linked = content.contains(&format!("href=\"#{}\"", object_anchor(name)));
        if bodies.contains(&name.as_str()) && !linked {
            continue;
        }
        let (id, title) = (object_anchor(name), escape(&object_title(name)));
        let _ = writeln!(navigation, "<li><a class=\"object\" href=\"#{id}\">{title}</a></li>");
        let _ = writeln!(
            content,
            "<article class=\"object\" aria-labelledby=\"{id}\">\n<h3 \
            id=\"{id}\">{title}</h3>\n{}{}</article>",
            paragraphs(text(schema, "description")),
            table(&format!("Fields of {title}"), &fields(document, schema), false)
        );
    }
    navigation.push_str("</ul>\n");
    content.push_str("</section>\n");
    let title = format!("{} API reference", text_at(document, "/info/title"));
    frame(
        Place::Endpoints,
        &title,
        "Every endpoint of Keyledger, with its parameters and answers.",
        &navigation,
        &content,
    )
}

fn text_at<'a>(document: &'a Value, pointer: &str) -> &'a str {
    document.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn tag_anchor(name: &str) -> String {
    format!("tag-{}", anchor(name))
}

fn introduction(document: &Value) -> String {
    let mut paragraphs_of = text_at(document, "/info/description").splitn(2, "\n\n");
    let lead = paragraphs_of.next().unwrap_or("");
    let rest = paragraphs_of.next().unwrap_or("");
    format!(
        "<header class=\"intro\">\n<h1>API reference</h1>\n<p class=\"lead\">{}</p>\n{}<p class=\"note\">The \
        examples read the root key from the environment. Their ids are invented.</p>\n{}<p \
        class=\"facts\">Version {} · <a href=\"/openapi.json\">OpenAPI {} document</a> · <a \
        href=\"/problems\">What each problem means</a></p>\n</header>\n",
        prose(lead),
        paragraphs(rest),
        code("Setting the root key", "export ROOT_KEY=klroot_..."),
        escape(text_at(document, "/info/version")),
        escape(text_at(document, "/openapi")),
    )
}

fn badge(endpoint: &Endpoint<'_>) -> String {
    let method = endpoint.method();
    let class = method.split(' ').next().unwrap_or("").to_lowercase();
    format!("<span class=\"method {}\">{}</span>", escape(&class), escape(&method))
}

fn article(document: &Value, endpoint: &Endpoint<'_>) -> String {
    let id = endpoint.anchor();
    let (title, rest) = endpoint.title();
    let mut html = format!(
        "<article class=\"endpoint\" aria-labelledby=\"{id}\">\n<div class=\"about\">\n<h3 id=\"{id}\"><a \
         href=\"#{id}\">{}</a></h3>\n\
         <p class=\"line\">{} <code>{}</code></p>\n{}",
        prose(&title),
        badge(endpoint),
        path(endpoint.path),
        paragraphs(&rest),
    );
    if endpoint.is_open() {
        html.push_str("<p class=\"note\">Needs no root key.</p>\n");
    }
    for (place, heading) in
        [("path", "Path parameters"), ("query", "Query parameters"), ("header", "Headers")]
    {
        let parameters: Vec<Field<'_>> =
            endpoint.parameters().map(parameter).filter(|it| it.place == place).collect();
        if !parameters.is_empty() {
            let _ = write!(html, "<h4>{heading}</h4>\n{}", table(heading, &parameters, true));
        }
    }
    if let Some((schema, required)) = endpoint.body() {
        let mut fields = fields(document, schema);
        fields.sort_by_key(|field| !field.required);
        let optional = if required { "" } else { " <small>The body is optional.</small>" };
        let _ = match fields.is_empty() {
            true => {
                writeln!(html, "<h4>Request</h4>\n<p class=\"note\">No fields. The body is optional.</p>")
            }
            false => {
                write!(html, "<h4>Request fields{optional}</h4>\n{}", table("Request fields", &fields, true))
            }
        };
    }
    html.push_str(&responses(endpoint));
    html.push_str("</div>\n<div class=\"examples\">\n<h4>Example</h4>\n");
    html.push_str(&code("Request", &example::curl(document, endpoint)));
    if let Some((status, answer)) = example::answer(document, endpoint) {
        html.push_str(&code(&format!("Answer, {status}"), &format!("{answer:#}")));
    }
    html.push_str("</div>\n</article>\n");
    html
}

/// Formats code that can be scrolled with the keyboard.
fn code(label: &str, text: &str) -> String {
    let label = escape(label);
    format!(
        "<figure>\n<figcaption>{label}</figcaption>\n<pre tabindex=\"0\" role=\"region\" \
        aria-label=\"{label}\"><code>{}</code></pre>\n</figure>\n",
        escape(text)
    )
}

/// Formats a table of fields. If they are sent, it shows which ones are required.
///
/// The roles are explicit because the style turns rows into cards on narrow screens, and browsers then drop
/// the implicit roles.
fn table(label: &str, fields: &[Field<'_>], sent: bool) -> String {
    let head = |name: &str| format!("<th role=\"columnheader\" scope=\"col\">{name}</th>");
    let mut html = format!(
        "<table role=\"table\" aria-label=\"{label}\">\n<thead role=\"rowgroup\"><tr role=\"row\">{}{}{}{}\
         </tr></thead>\n\
         <tbody role=\"rowgroup\">\n",
        head("Name"),
        head("Type"),
        if sent { head("Required") } else { String::new() },
        head("Description"),
    );
    for field in fields {
        // An optional parameter is never sent as null, although the document's generator says so.
        let nullable =
            if is_nullable(field.schema) && field.place.is_empty() { " <small>or null</small>" } else { "" };
        let required = match (sent, field.required) {
            (false, _) => "",
            (true, true) => "<td role=\"cell\" class=\"required\">required</td>",
            (true, false) => "<td role=\"cell\" class=\"optional\">optional</td>",
        };
        let description = format!("{} {}", sentence(field.description), bounds(field.schema));
        let _ = writeln!(
            html,
            "<tr role=\"row\"><th role=\"rowheader\" scope=\"row\"><code>{}</code></th>\
             <td role=\"cell\" class=\"type\">{}{nullable}</td>{required}<td role=\"cell\">{}</td></tr>",
            escape(field.name),
            type_html(field.schema),
            prose(description.trim()),
        );
    }
    html.push_str("</tbody>\n</table>\n");
    html
}

/// Turns a note into a sentence.
fn sentence(note: &str) -> String {
    let note = note.trim();
    let stop = if note.is_empty() || note.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{}{stop}", capitalized(note))
}

fn responses(endpoint: &Endpoint<'_>) -> String {
    let mut html = String::from("<h4>Responses</h4>\n<dl class=\"responses\">\n");
    for (code, response) in endpoint.responses() {
        let object =
            json_schema(response).filter(|schema| text(schema, "$ref") != "#/components/schemas/Problem");
        let object = object.map(|schema| format!(" Answers {}.", type_html(schema))).unwrap_or_default();
        let _ = writeln!(
            html,
            "<div><dt>{}</dt><dd>{}{object}{}{}</dd></div>",
            status(code),
            prose(&sentence(text(response, "description"))),
            media_types(response),
            headers(response),
        );
    }
    html.push_str("</dl>\n");
    html
}

/// Lists the media types of an answer other than JSON.
fn media_types(response: &Value) -> String {
    let content = response.get("content").and_then(Value::as_object).into_iter().flatten();
    let others = content.filter(|(name, _)| *name != "application/json" && !name.ends_with("+json"));
    let others: Vec<String> = others.map(|(name, _)| format!("<code>{}</code>", escape(name))).collect();
    match (others.is_empty(), json_schema(response).is_some()) {
        (true, _) => String::new(),
        (false, true) => format!(" Also as {}.", others.join(", ")),
        (false, false) => format!(" As {}.", others.join(", ")),
    }
}

fn headers(response: &Value) -> String {
    let mut html = String::new();
    for (name, header) in response.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let description = prose(&sentence(text(header, "description")));
        let _ = write!(html, "<li><code>{}</code> {description}</li>", escape(name));
    }
    if html.is_empty() { html } else { format!("<ul class=\"headers\">{html}</ul>") }
}
