use super::*;
use crate::resource::RESOURCES;

/// Walks a schema and tells every schema within, with its path.
fn walk(path: &str, schema: &Value, see: &mut dyn FnMut(&str, &Value)) {
    see(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, see);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(keyword) {
            walk(&format!("{path}[]"), inner, see);
        }
    }
}

fn schemas() -> impl Iterator<Item = (String, Value)> {
    RESOURCES.iter().flat_map(|resource| {
        resource
            .versions
            .iter()
            .map(|version| (format!("{}/{}", resource.kind, version.name), (version.schema)()))
    })
}

#[test]
fn every_schema_is_structural() {
    const KNOWN: [&str; 21] = [
        "type",
        "description",
        "format",
        "properties",
        "items",
        "additionalProperties",
        "required",
        "enum",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "pattern",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
        "x-kubernetes-validations",
        "x-kubernetes-int-or-string",
    ];
    for (name, schema) in schemas() {
        walk(&name, &schema, &mut |path, schema| {
            let fields = schema.as_object().expect(path);
            for keyword in fields.keys() {
                assert!(KNOWN.contains(&keyword.as_str()), "{path}: {keyword}");
            }
            let kind = schema["type"].as_str();
            assert!(kind.is_some() || schema[structural::PRESERVE] == true, "{path}: no type");
            assert_eq!(kind == Some("array"), fields.contains_key("items"), "{path}");
            let both =
                fields.contains_key("properties") && fields.contains_key("additionalProperties");
            assert!(!both, "{path}: a map and fields at once");
            for required in schema["required"].as_array().into_iter().flatten() {
                let required = required.as_str().unwrap();
                assert!(schema["properties"].get(required).is_some(), "{path} has no {required}");
            }
            for key in schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten() {
                let items = &schema["items"];
                assert!(items["properties"].get(key.as_str().unwrap()).is_some(), "{path}");
                // Of kinds that are built in, Kubernetes tells keys apart itself.
                let required = items["required"].as_array().is_some_and(|list| list.contains(key));
                assert!(
                    required || path.starts_with("ServiceAccount"),
                    "{path}: {key} may be absent"
                );
            }
        });
        assert_eq!(schema["properties"]["metadata"], json!({ "type": "object" }), "{name}");
    }
}

#[test]
fn every_field_of_the_meshs_kinds_is_described_for_users() {
    for (name, schema) in schemas() {
        walk(&name, &schema, &mut |path, schema| {
            // Items and values of maps are described by what holds them; metadata by the server.
            if path.ends_with("[]") || path.ends_with(".metadata") {
                return;
            }
            let description = schema["description"].as_str().unwrap_or_default();
            assert!(description.ends_with('.'), "{path}: {description:?}");
            // Links of rustdoc mean nothing to users.
            assert!(!description.contains("[`"), "{path}: {description:?}");
        });
    }
}

#[test]
fn filters_are_spelt_out_twice_and_deeper_ones_can_be_anything() {
    let schema = trigger();
    let filter = &schema["properties"]["spec"]["properties"]["filters"]["items"]["properties"];
    assert_eq!(filter["exact"]["additionalProperties"]["type"], "string");
    let nested = &filter["all"]["items"]["properties"];
    assert_eq!(nested["cesql"]["type"], "string");
    let deeper = &nested["not"];
    assert_eq!(deeper["type"], "object");
    assert_eq!(deeper["x-kubernetes-preserve-unknown-fields"], true);
    assert!(deeper.get("properties").is_none());
}

#[test]
fn optional_fields_are_no_null_and_have_no_default() {
    let schema = broker();
    let delivery = &schema["properties"]["spec"]["properties"]["delivery"];
    assert_eq!(delivery["type"], "object");
    let fields = &delivery["properties"];
    assert_eq!(fields["retry"]["type"], "integer");
    assert_eq!(
        (&fields["retry"]["format"], &fields["retry"]["minimum"]),
        (&json!("int32"), &json!(0))
    );
    assert_eq!(fields["backoffPolicy"]["enum"], json!(["linear", "exponential"]));
    let truth = &schema["properties"]["status"]["properties"]["conditions"]["items"]["properties"]
        ["status"];
    assert_eq!(
        (&truth["type"], &truth["enum"]),
        (&json!("string"), &json!(["True", "False", "Unknown"]))
    );
}

#[test]
fn a_status_has_what_its_kind_has() {
    let has = |schema: Value, field: &str| {
        schema["properties"]["status"]["properties"].get(field).is_some()
    };
    assert!(has(broker(), "address") && !has(broker(), "subscriberUri"));
    assert!(has(trigger(), "subscriberUri") && !has(trigger(), "sinkUri"));
    assert!(has(ping_source(), "ceAttributes") && !has(ping_source(), "webhookIDKey"));
    assert!(has(github_source(), "webhookIDKey"));
    for schema in [broker(), trigger(), ping_source(), github_source()] {
        assert!(has(schema.clone(), "conditions") && has(schema, "observedGeneration"));
    }
}
