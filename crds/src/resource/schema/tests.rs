use super::*;
use crate::source::tests::TickSource;

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
    let tick = source::<TickSource>();
    assert!(has(tick.clone(), "ceAttributes") && !has(tick.clone(), "subscriberUri"));
    assert_eq!(
        tick["properties"]["status"]["properties"]["consumers"],
        json!({"type": "integer", "description": "How many there are."})
    );
    for schema in [broker(), trigger(), tick] {
        assert!(has(schema.clone(), "conditions") && has(schema, "observedGeneration"));
    }
}

#[test]
fn a_source_is_described_by_what_the_type_of_its_spec_says() {
    let schema = source::<TickSource>();
    assert_eq!(schema["description"], "A `TickSource` sends its data now and then.");
    assert_eq!(schema["required"], json!(["spec"]));
    let spec = &schema["properties"]["spec"];
    assert_eq!(spec["description"], "What is wanted of the source.");
    assert_eq!(spec["required"], json!(["sink"]));
    assert_eq!(
        spec["properties"]["data"],
        json!({"type": "string", "description": "What it sends."})
    );
}
