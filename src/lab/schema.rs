//! The lab file's JSON Schema, for editors: made from the declarations that the decoder is made
//! from, so the two cannot drift apart.

use serde_json::{Value as Json, json};

use super::{file::LabFile, value::Value};

/// The JSON Schema (draft 2020-12) of the lab file.
///
/// It says what can be said of each key for itself; what must hold between keys (no overlaps,
/// nothing twice) only `netlab check` can tell.
pub fn schema() -> Json {
    let mut schema = LabFile::schema();
    if let Json::Object(schema) = &mut schema {
        schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        schema.insert("title".to_owned(), json!("netlab lab file"));
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spelt_as_in_the_file_and_described() {
        let schema = schema();
        let service = &schema["properties"]["service"]["items"];
        assert_eq!(
            service["properties"]["type"]["enum"],
            json!(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"])
        );
        assert_eq!(service["required"], json!(["name"]));
        assert_eq!(service["additionalProperties"], json!(false));
        assert_eq!(service["properties"]["name"]["description"], json!("Its name."));
    }
}
