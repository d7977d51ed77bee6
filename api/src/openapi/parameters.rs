//! Parameters that many endpoints share, described once. An endpoint lists them in `params(...)`.

use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{Object, Required};

/// Declares parameters with their place, name, type and description.
macro_rules! parameters {
    ($($Name:ident $place:ident $name:literal $schema:expr, $description:literal;)*) => {$(
        #[doc = concat!("Documents `", $name, "`.")]
        pub(crate) struct $Name;

        impl IntoParams for $Name {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                let is_required = ParameterIn::$place == ParameterIn::Path;
                let parameter = ParameterBuilder::new()
                    .name($name)
                    .parameter_in(ParameterIn::$place)
                    .required(if is_required { Required::True } else { Required::False })
                    .description(Some($description))
                    .schema(Some($schema));
                vec![parameter.build()]
            }
        }
    )*};
}

parameters! {
    ObjectId Path "id" string(), "the object's id";
    IfMatch Header "If-Match" optional(string()), "the `ETag` that the object must have";
    IfNoneMatch Header "If-None-Match" optional(string()),
        "the `ETag` that the client has; the answer is 304 if it is the current one";
    IdempotencyKey Header "Idempotency-Key" optional(string()),
        "identifies the request for 24 hours: a repetition is executed once";
    MinPosition Header "Keyledger-Min-Position" optional(position()),
        "the lowest log position that the answer may rest on";
    LastEventId Header "Last-Event-ID" optional(position()),
        "the last received event; takes the place of `after`";
}

fn string() -> Object {
    ObjectBuilder::new().schema_type(Type::String).build()
}

fn position() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(0))
        .build()
}

/// Returns the schema of a value that may be absent.
fn optional(mut schema: Object) -> Object {
    if let SchemaType::Type(only) = schema.schema_type {
        schema.schema_type = SchemaType::Array(vec![only, Type::Null]);
    }
    schema
}
