//! The JSON Schema of `-o json`: made from the types that are printed, so the two cannot drift apart.

use schemars::generate::SchemaSettings;
use serde_json::Value as Json;

use super::Report;

/// The JSON Schema (draft 2020-12) of a [`Report`].
pub fn schema() -> Json {
    // It says what is printed: all of it, always.
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<Report>();
    schema.insert("title".to_owned(), "netlab verify report".into());
    schema.to_value()
}
