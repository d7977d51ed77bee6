//! The OpenAPI document as the pages read it.

use serde_json::{Map, Value};

use super::html::{escape, prose};

/// The longest chain of references that is followed, which ends circular ones.
const REFERENCES_MAX: usize = 8;
/// An endpoint with at least this many methods is shown as taking any.
const ANY_METHODS_MIN: usize = 5;
const METHODS: [&str; 8] = ["get", "post", "put", "patch", "delete", "head", "options", "trace"];

/// An endpoint: a method on a path, or several methods with the same meaning.
pub(super) struct Endpoint<'a> {
    pub(super) methods: Vec<&'a str>,
    pub(super) path: &'a str,
    pub(super) operation: &'a Value,
}

impl Endpoint<'_> {
    /// Returns the methods as one word, such as `POST` or `ANY`.
    pub(super) fn method(&self) -> String {
        if self.methods.len() >= ANY_METHODS_MIN {
            "ANY".into()
        } else {
            self.methods.join(" ").to_uppercase()
        }
    }

    /// Returns the endpoint's anchor on the page.
    pub(super) fn anchor(&self) -> String {
        anchor(&format!("{} {}", self.method(), self.path))
    }

    /// Returns the first sentence of its description without the full stop, and the rest of the description.
    pub(super) fn title(&self) -> (String, String) {
        let (summary, description) = (text(self.operation, "summary"), text(self.operation, "description"));
        let all = match summary.ends_with(['.', ';', ':']) || summary.is_empty() || description.is_empty() {
            // The summary is only the first line of a paragraph that continues in the description.
            false => format!("{summary} {description}"),
            true => format!("{summary}\n\n{description}"),
        };
        let all = all.trim();
        match end_of_clause(all) {
            Some(end) => {
                let (first, rest) = all.split_at(end);
                (first.into(), capitalized(rest.trim_start_matches(['.', ';', ':']).trim_start()))
            }
            None => (all.trim_end_matches('.').into(), String::new()),
        }
    }

    /// Returns whether it needs no credential.
    pub(super) fn is_open(&self) -> bool {
        let empty = |it: &Value| it.as_object().is_some_and(Map::is_empty);
        let security = self.operation.get("security").and_then(Value::as_array);
        security.is_some_and(|any_of| any_of.is_empty() || any_of.iter().any(empty))
    }

    /// Returns the schema of its JSON body, and whether the body is required.
    pub(super) fn body(&self) -> Option<(&Value, bool)> {
        let body = self.operation.get("requestBody")?;
        let required = body.get("required").and_then(Value::as_bool).unwrap_or(false);
        Some((json_schema(body)?, required))
    }

    pub(super) fn parameters(&self) -> impl Iterator<Item = &Value> {
        self.operation.get("parameters").and_then(Value::as_array).into_iter().flatten()
    }

    pub(super) fn responses(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.operation.get("responses").and_then(Value::as_object).into_iter().flatten()
    }
}

/// Returns the end of the first clause, ignoring punctuation within code.
fn end_of_clause(text: &str) -> Option<usize> {
    let ends = text.match_indices(['.', ';', ':']).filter(|(at, _)| {
        let (before, rest) = text.split_at(*at);
        rest.chars().nth(1).is_some_and(char::is_whitespace) && before.matches('`').count().is_multiple_of(2)
    });
    ends.map(|(at, _)| at).next()
}

/// Capitalizes the first letter of a text.
pub(super) fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => format!("{}{}", first.to_uppercase(), characters.as_str()),
        None => String::new(),
    }
}

/// Returns the schema of a body's or an answer's JSON.
pub(super) fn json_schema(content_of: &Value) -> Option<&Value> {
    let content = content_of.get("content")?.as_object()?;
    content
        .iter()
        .find(|(name, _)| *name == "application/json" || name.ends_with("+json"))
        .and_then(|(_, it)| it.get("schema"))
}

/// Returns a text member, or an empty text.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("")
}

/// Turns a name into an anchor.
pub(super) fn anchor(name: &str) -> String {
    let parts =
        name.split(|character: char| !character.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    parts.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

/// Returns the tags with their endpoints, in the document's order.
pub(super) fn tags(document: &Value) -> Vec<(&str, &str, Vec<Endpoint<'_>>)> {
    let mut tags: Vec<(&str, &str, Vec<Endpoint<'_>>)> = Vec::new();
    for tag in document.get("tags").and_then(Value::as_array).into_iter().flatten() {
        tags.push((text(tag, "name"), text(tag, "description"), Vec::new()));
    }
    for endpoint in endpoints(document) {
        let tag = endpoint.operation.pointer("/tags/0").and_then(Value::as_str).unwrap_or("Other");
        match tags.iter_mut().find(|(name, ..)| *name == tag) {
            Some((_, _, endpoints)) => endpoints.push(endpoint),
            None => tags.push((tag, "", vec![endpoint])),
        }
    }
    tags.retain(|(_, _, endpoints)| !endpoints.is_empty());
    tags
}

fn endpoints(document: &Value) -> Vec<Endpoint<'_>> {
    let mut endpoints: Vec<Endpoint<'_>> = Vec::new();
    for (path, item) in document.get("paths").and_then(Value::as_object).into_iter().flatten() {
        for (method, operation) in METHODS.iter().filter_map(|method| Some((*method, item.get(method)?))) {
            let same = |endpoint: &&mut Endpoint<'_>| {
                endpoint.path == path && mean_the_same(endpoint.operation, operation)
            };
            match endpoints.iter_mut().find(same) {
                Some(endpoint) => endpoint.methods.push(method),
                None => endpoints.push(Endpoint { methods: vec![method], path, operation }),
            }
        }
    }
    endpoints
}

fn mean_the_same(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return false };
    let rest = |it: &Map<String, Value>| {
        let mut it = it.clone();
        it.remove("operationId");
        it
    };
    rest(one) == rest(other)
}

/// Returns the objects in requests and answers.
pub(super) fn schemas(document: &Value) -> impl Iterator<Item = (&String, &Value)> {
    document.pointer("/components/schemas").and_then(Value::as_object).into_iter().flatten()
}

/// Returns the name to which a schema refers, if any. An alternative `null` is ignored.
pub(super) fn name_of(schema: &Value) -> Option<&str> {
    match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => reference.rsplit('/').next(),
        None => match alternatives(schema).as_slice() {
            [only] => name_of(only),
            _ => None,
        },
    }
}

/// Returns the alternatives of a schema except `null`.
fn alternatives(schema: &Value) -> Vec<&Value> {
    let lists = ["oneOf", "anyOf", "allOf"].iter().filter_map(|name| schema.get(name)?.as_array());
    lists.flatten().filter(|it| text(it, "type") != "null").collect()
}

/// Returns the schema to which a named reference leads.
pub(super) fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let mut schema = schema;
    for _ in 0..REFERENCES_MAX {
        let Some(name) = name_of(schema) else { break };
        let Some((_, found)) = schemas(document).find(|(known, _)| *known == name) else { break };
        schema = found;
    }
    schema
}

/// A member of an object, or a parameter, as a table shows it.
pub(super) struct Field<'a> {
    pub(super) name: &'a str,
    pub(super) place: &'a str,
    pub(super) required: bool,
    pub(super) description: &'a str,
    pub(super) schema: &'a Value,
}

/// Returns the members of an object.
pub(super) fn fields<'a>(document: &'a Value, schema: &'a Value) -> Vec<Field<'a>> {
    let schema = resolve(document, schema);
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|it| it == name));
    let members = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let field = |(name, schema): (&'a String, &'a Value)| {
        let place = "";
        Field { name, place, required: is_required(name), description: text(schema, "description"), schema }
    };
    members.map(field).collect()
}

/// Returns a parameter of an endpoint.
pub(super) fn parameter(parameter: &Value) -> Field<'_> {
    Field {
        name: text(parameter, "name"),
        place: text(parameter, "in"),
        required: parameter.get("required").and_then(Value::as_bool).unwrap_or(false),
        description: text(parameter, "description"),
        schema: parameter.get("schema").unwrap_or(&Value::Null),
    }
}

/// Formats the type of a value as HTML, with links to the objects it names.
pub(super) fn type_html(schema: &Value) -> String {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|it| it.rsplit('/').next()) {
        return format!("<a href=\"#{}\">{}</a>", object_anchor(name), escape(&object_title(name)));
    }
    let alternatives = alternatives(schema);
    if !alternatives.is_empty() {
        return alternatives.into_iter().map(type_html).collect::<Vec<_>>().join(" or ");
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let shown = values.iter().map(|value| match value.as_str() {
            Some(text) => prose(&format!("`{text}`")),
            None => escape(&value.to_string()),
        });
        return shown.collect::<Vec<_>>().join(" or ");
    }
    let names = match schema.get("type") {
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).filter(|it| *it != "null").collect()
        }
        Some(Value::String(name)) => vec![name.as_str()],
        _ => vec![],
    };
    match (names.as_slice(), schema.get("items"), text(schema, "format")) {
        ([], ..) => "any".into(),
        (["array"], Some(items), _) => format!("array of {}", plural(&type_html(items))),
        (["string"], _, "date-time") => "RFC 3339 time".into(),
        (names, ..) => escape(&names.join(" or ")),
    }
}

fn plural(name: &str) -> String {
    if matches!(name, "string" | "integer" | "number" | "object") { format!("{name}s") } else { name.into() }
}

/// Returns whether the value may be `null`.
pub(super) fn is_nullable(schema: &Value) -> bool {
    let null = |it: &Value| it == "null" || text(it, "type") == "null";
    ["type", "oneOf", "anyOf"].iter().filter_map(|name| schema.get(name)?.as_array()).flatten().any(null)
}

/// Returns the bounds of a value in words.
pub(super) fn bounds(schema: &Value) -> String {
    let mut bounds = Vec::new();
    if let Some(most) = schema.get("maxLength").and_then(Value::as_u64) {
        bounds.push(format!("At most {} characters.", grouped(most)));
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        bounds.push(format!("Matches `{pattern}`."));
    }
    bounds.join(" ")
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns an object's anchor on the page.
pub(super) fn object_anchor(name: &str) -> String {
    format!("object-{}", anchor(name))
}

/// Returns an object's name for people: `Page_Key` is a page of keys.
pub(super) fn object_title(name: &str) -> String {
    match name.split_once('_') {
        Some((outer, "String")) => outer.into(),
        Some((outer, inner)) => format!("{outer} of {inner}"),
        None => name.into(),
    }
}
