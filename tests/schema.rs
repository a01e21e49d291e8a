//! The JSON Schema accepts what `load` accepts, and knows the same keys.

use std::fs;

use netlab::lab::schema;
use serde_json::Value;

/// The part of JSON Schema that the lab file's schema uses, except patterns.
fn check(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        if !choices.iter().any(|choice| check(choice, value, path).is_empty()) {
            wrong.push(format!("{path}: none of {choices:?}"));
        }
        return wrong;
    }
    let fits = match schema.get("type").and_then(Value::as_str) {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64(),
        Some("boolean") => value.is_boolean(),
        Some("number") => value.is_number(),
        Some(other) => panic!("{path}: unknown type {other}"),
        None => true,
    };
    if !fits {
        wrong.push(format!("{path}: {value} is not {}", schema["type"]));
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array)
        && !words.contains(value)
    {
        wrong.push(format!("{path}: {value} is not one of {words:?}"));
    }
    if schema.get("const").is_some_and(|only| only != value) {
        wrong.push(format!("{path}: {value}"));
    }
    if let Some(number) = value.as_i64() {
        let low = schema.get("minimum").and_then(Value::as_i64).is_none_or(|low| low <= number);
        let high = schema.get("maximum").and_then(Value::as_i64).is_none_or(|high| number <= high);
        if !low || !high {
            wrong.push(format!("{path}: {number} is out of range"));
        }
    }
    for (nth, element) in value.as_array().into_iter().flatten().enumerate() {
        wrong.extend(check(&schema["items"], element, &format!("{path}[{nth}]")));
    }
    let Some(table) = value.as_object() else { return wrong };
    for (key, element) in table {
        match (schema["properties"].get(key), &schema["additionalProperties"]) {
            (Some(schema), _) => wrong.extend(check(schema, element, &format!("{path}.{key}"))),
            (None, Value::Object(_)) => {
                wrong.extend(check(&schema["additionalProperties"], element, &format!("{path}.{key}")));
            }
            (None, _) => wrong.push(format!("{path}: unknown key {key}")),
        }
    }
    for key in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !table.contains_key(key) {
            wrong.push(format!("{path}: missing key {key}"));
        }
    }
    wrong
}

fn problems(toml: &str) -> Vec<String> {
    let value: Value = toml::from_str(toml).unwrap_or_else(|error| panic!("{error}"));
    check(&schema(), &value, "lab")
}

#[test]
fn the_example_labs_fit_the_schema() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/labs");
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}")) {
        let path = entry.unwrap_or_else(|error| panic!("{folder}: {error}")).path();
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(problems(&text), Vec::<String>::new(), "{}", path.display());
    }
}

#[test]
fn the_schema_refuses_what_the_decoder_refuses() {
    for text in [
        "nam = \"x\"",
        "name = 5",
        "[cluster]\nproxy = \"ipvs\"",
        "[pod]\nname = \"x\"",
        "[[pod]]\nreplicas = 1",
        "[[pod]]\nname = \"x\"\nreplicas = 10001",
        "[[service]]\nname = \"x\"\nports = [{ port = 0 }]",
        "[[service]]\nname = \"x\"\nports = [{ port = 1, target_port = true }]",
        "[[pod]]\nname = \"x\"\nlabels = { a = 1 }",
        "[[probe]]\nfrom = \"host\"\ntcp = 80",
        "[[probe]]\nfrom = \"host\"\nexpect = \"refuse\"",
        "[[probe]]\nfrom = \"host\"\nexpect = { statsu = 200 }",
        "[[probe]]\nfrom = []\ndistribution = { connections = 1 }",
    ] {
        assert!(!problems(text).is_empty(), "{text}");
    }
}

#[test]
fn every_key_is_described() {
    fn walk(schema: &Value, path: &str) {
        for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{key}");
            assert!(schema["description"].as_str().is_some_and(|text| text.ends_with('.')), "{path}");
            walk(schema, &path);
            walk(&schema["items"], &path);
            schema["anyOf"].as_array().into_iter().flatten().for_each(|choice| walk(choice, &path));
        }
    }
    walk(&schema(), "lab");
}
