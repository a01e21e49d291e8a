//! The JSON Schema of the report of several labs, made from its types.

use schemars::{Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::Value;

use super::LabsReport;

/// The JSON Schema (draft 2020-12) of `netlab test -o json`.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.root_schema_for::<LabsReport>();
    schema.insert("title".to_owned(), "netlab test report".into());
    schema.to_value()
}

/// The report of one lab's probes: what all of its readers need.
pub(super) fn of_report(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["object", "null"],
        "required": ["version", "lab", "proxy", "engine", "passed", "groups", "causes", "probes"],
        "properties": {
            "version": { "const": crate::report::VERSION },
            "lab": { "type": "string" },
            "passed": { "type": "boolean" },
            "probes": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["id", "name", "group", "from", "target", "result", "expected", "happened"],
                    "properties": {
                        "id": { "type": "string" },
                        "name": { "type": "string" },
                        "result": { "enum": ["passed", "failed", "skipped"] },
                    },
                },
            },
        },
    })
}
