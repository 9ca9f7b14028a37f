use crds::admission::Handle;
use crds::config_map::ConfigMap;
use crds::resource::InFiles;
use jiff::SignedDuration;
use proptest::prelude::*;

use super::duration::human;
use super::*;

const READY: Column = Column {
    name: "Ready",
    kind: "string",
    path: ".status.conditions[?(@.type==\"Ready\")].status",
    priority: 0,
    description: "",
};

const AGED: Column = Column {
    name: "Age",
    kind: "date",
    path: ".metadata.creationTimestamp",
    priority: 1,
    description: "How old it is.",
};

static COLUMNS: [Column; 2] = [READY, AGED];

fn version(columns: &'static [Column]) -> Version {
    Version { name: "v1", deprecated: None, columns, schema: || json!({}) }
}

fn resource(group: &'static str, kind: &'static str) -> Resource {
    Resource {
        group,
        kind,
        plural: "",
        singular: "",
        short_names: &[],
        categories: &[],
        namespaced: true,
        versions: &[],
        status: false,
        writable: true,
        labels: &[],
        annotations: &[],
        in_files: InFiles::Never,
        handle: Handle::of::<ConfigMap>(),
        scale: None,
    }
}

fn now() -> Timestamp {
    "2026-01-02T00:00:00Z".parse().unwrap()
}

fn rows(group: &'static str, kind: &'static str, object: Value) -> Value {
    let table =
        table(&resource(group, kind), &version(&[]), &[object], now(), json!({}), Include::None);
    table["rows"][0]["cells"].clone()
}

#[test]
fn a_custom_resource_is_shown_by_its_columns() {
    let trigger = resource("eventing.knative.dev", "Trigger");
    let object = json!({
        "metadata": {"name": "t", "creationTimestamp": "2026-01-01T23:55:00Z"},
        "status": {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]},
    });
    let meta = json!({"resourceVersion": "7"});
    let objects = [object.clone(), json!({"metadata": {"name": "u"}})];
    let table = table(&trigger, &version(&COLUMNS), &objects, now(), meta, Include::Metadata);
    assert_eq!(
        table,
        json!({
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": {"resourceVersion": "7"},
            "columnDefinitions": [
                {"name": "Name", "type": "string", "format": "name", "description": NAME, "priority": 0},
                {
                    "name": "Ready", "type": "string", "format": "", "priority": 0,
                    "description": "Custom resource definition column (in JSONPath format): \
                        .status.conditions[?(@.type==\"Ready\")].status",
                },
                {"name": "Age", "type": "date", "format": "", "description": "How old it is.", "priority": 1},
            ],
            "rows": [
                {
                    "cells": ["t", "True", "5m"],
                    "object": {
                        "kind": "PartialObjectMetadata",
                        "apiVersion": "meta.k8s.io/v1",
                        "metadata": object["metadata"],
                    },
                },
                {
                    "cells": ["u", null, null],
                    "object": {
                        "kind": "PartialObjectMetadata",
                        "apiVersion": "meta.k8s.io/v1",
                        "metadata": {"name": "u"},
                    },
                },
            ],
        })
    );
}

#[test]
fn rows_carry_what_was_asked_for() {
    let trigger = resource("eventing.knative.dev", "Trigger");
    let object = json!({"metadata": {"name": "t"}, "spec": {"broker": "b"}});
    let carried = |include| {
        let objects = [object.clone()];
        table(&trigger, &version(&[]), &objects, now(), json!({}), include)["rows"][0]["object"]
            .clone()
    };
    assert_eq!(carried(Include::None), Value::Null);
    assert_eq!(carried(Include::Object), object);
}

#[test]
fn cells_are_of_the_type_of_their_column() {
    let cases = [
        ("string", json!("x"), json!("x")),
        ("string", json!(1.5), json!("1.5")),
        ("string", json!(true), json!("true")),
        ("string", json!(["a", 1]), json!("[\"a\",1]")),
        ("string", Value::Null, json!("<no value>")),
        ("integer", json!(3), json!(3)),
        ("integer", json!(3.9), json!(3)),
        ("integer", json!(1e300), Value::Null),
        ("integer", json!("3"), Value::Null),
        ("number", json!(1.5), json!(1.5)),
        ("number", json!("1.5"), Value::Null),
        ("boolean", json!(false), json!(false)),
        ("boolean", json!("false"), Value::Null),
        ("date", json!("2026-01-01T00:00:00Z"), json!("24h")),
        ("date", json!(""), json!("<unknown>")),
        ("date", json!("yesterday"), json!("<invalid>")),
        ("date", json!("2027-01-01T00:00:00Z"), json!("<invalid>")),
        ("date", json!(5), Value::Null),
        ("unheard", json!(5), Value::Null),
    ];
    for (kind, value, expected) in cases {
        assert_eq!(cell(kind, &value, now()), expected, "{kind} {value}");
    }
}

#[test]
fn paths_of_columns_are_followed() {
    let object = json!({
        "a": {"b": "ab", "c.d": "dotted", "e": [{"n": 1, "ok": true}, {"n": 2}]},
        "m": {"x/y": "slash"},
    });
    let cases = [
        (".a.b", Some(json!("ab"))),
        (".a['c.d']", Some(json!("dotted"))),
        (".a.c\\.d", Some(json!("dotted"))),
        (".m['x/y']", Some(json!("slash"))),
        (".m[\"x/y\"]", Some(json!("slash"))),
        (".a.e[0].n", Some(json!(1))),
        (".a.e[-1].n", Some(json!(2))),
        (".a.e[*].n", Some(json!(1))),
        (".a.e[?(@.n==2)].n", Some(json!(2))),
        (".a.e[?(@.n!=1)].n", Some(json!(2))),
        (".a.e[?( @.ok == true )].n", Some(json!(1))),
        (".a.e[?(@.ok)].n", Some(json!(1))),
        (".a.e[2].n", None),
        (".a.e[-3].n", None),
        (".a.x.y", None),
        (".a.b[?(@.n==2)]", None),
    ];
    for (text, expected) in cases {
        let path = Path::parse(text).unwrap_or_else(|| panic!("{text} is a path"));
        assert_eq!(path.first(&object), expected.as_ref(), "{text}");
    }
    for text in ["a", ".", ".a.", ".a[", ".a[x]", ".a[?(@.b==)]", ".a[?(b)]", ".a b"] {
        assert_eq!(Path::parse(text), None, "{text}");
    }
}

#[test]
fn ages_have_two_or_three_significant_figures() {
    let (minute, hour, day) = (60, 3600, 86_400);
    let cases = [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (5 * minute + 30, "5m30s"),
        (10 * minute + 30, "10m"),
        (179 * minute, "179m"),
        (3 * hour, "3h"),
        (3 * hour + 20 * minute, "3h20m"),
        (8 * hour + 20 * minute, "8h"),
        (47 * hour, "47h"),
        (2 * day, "2d"),
        (2 * day + 5 * hour, "2d5h"),
        (8 * day + 5 * hour, "8d"),
        (729 * day, "729d"),
        (730 * day, "2y"),
        (740 * day, "2y10d"),
        (8 * 365 * day + 10 * day, "8y"),
    ];
    for (seconds, expected) in cases {
        assert_eq!(human(SignedDuration::from_secs(seconds)), expected, "{seconds}");
    }
}

#[test]
fn kubernetes_own_kinds_are_shown_as_anywhere() {
    let meta = json!({"name": "n", "creationTimestamp": "2026-01-01T21:00:00Z"});
    let namespace = json!({"metadata": meta, "status": {"phase": "Active"}});
    assert_eq!(rows("", "Namespace", namespace), json!(["n", "Active", "3h"]));
    let map = json!({"metadata": meta, "data": {"a": "1", "b": "2"}, "binaryData": {"c": "eA=="}});
    assert_eq!(rows("", "ConfigMap", map), json!(["n", 3, "3h"]));
    let secret = json!({"metadata": meta, "type": "Opaque", "data": {"a": "eA=="}});
    assert_eq!(rows("", "Secret", secret), json!(["n", "Opaque", 1, "3h"]));
    assert_eq!(rows("", "ServiceAccount", json!({"metadata": meta})), json!(["n", 0, "3h"]));
    let lease = json!({"metadata": meta, "spec": {"holderIdentity": "me"}});
    assert_eq!(rows("coordination.k8s.io", "Lease", lease), json!(["n", "me", "3h"]));
    let definition = json!({"metadata": meta});
    let cells = rows("apiextensions.k8s.io", "CustomResourceDefinition", definition);
    assert_eq!(cells, json!(["n", "2026-01-01T21:00:00Z"]));
    assert_eq!(rows("", "ConfigMap", json!({})), json!(["", 0, "<unknown>"]));
}

#[test]
fn events_show_when_they_were_last_seen() {
    let event = json!({
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Trigger", "name": "t", "fieldPath": "spec"},
        "type": "Warning", "reason": "Slow", "message": " too slow\n", "count": 3,
        "firstTimestamp": "2026-01-01T23:00:00Z", "lastTimestamp": "2026-01-01T23:59:00Z",
        "source": {"component": "weft", "host": "h"},
    });
    assert_eq!(
        rows("", "Event", event),
        json!([
            "60s",
            "Warning",
            "Slow",
            "trigger/t",
            "spec",
            "weft, h",
            "too slow",
            "60m",
            3,
            "e"
        ])
    );
    let series = json!({
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Trigger"},
        "eventTime": "2026-01-01T23:00:00.000001Z",
        "series": {"count": 9, "lastObservedTime": "2026-01-01T23:58:00.5Z"},
        "reportingComponent": "weft",
    });
    assert_eq!(
        rows("", "Event", series),
        json!(["119s", "", "", "trigger", "", "weft", "", "59m", 9, "e"])
    );
    let once = json!({"metadata": {"name": "e"}, "eventTime": "2026-01-01T23:50:00Z"});
    assert_eq!(rows("", "Event", once), json!(["10m", "", "", "", "", "", "", "10m", 1, "e"]));
}

#[test]
fn every_row_has_a_cell_for_every_column() {
    for (group, kind) in [
        ("", "Namespace"),
        ("", "ConfigMap"),
        ("", "Secret"),
        ("", "ServiceAccount"),
        ("", "Event"),
        ("events.k8s.io", "Event"),
        ("coordination.k8s.io", "Lease"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("eventing.knative.dev", "Trigger"),
    ] {
        let printer = Printer::new(&resource(group, kind), &version(&COLUMNS));
        assert_eq!(printer.cells(&json!(null), now()).len(), printer.headings.len(), "{kind}");
        assert_eq!(printer.headings.iter().filter(|heading| heading.is_name).count(), 1, "{kind}");
    }
}

#[test]
fn the_columns_of_every_kind_can_be_read() {
    for resource in crds::resource::Catalog::BUILTIN.iter() {
        for column in resource.versions.iter().flat_map(|version| version.columns) {
            assert!(Path::parse(column.path).is_some(), "{} of {}", column.path, resource.kind);
        }
    }
    assert!(Path::parse(crds::source::SINK.path).is_some(), "of sources");
}

proptest! {
    #[test]
    fn no_path_makes_the_parser_panic(text in "[.a\\[\\]'\"?()@=!*0-9\\\\ é-]{0,20}") {
        if let Some(path) = Path::parse(&text) {
            let object = json!({"a": [{"a": 1}]});
            let found = path.first(&object);
            prop_assert!(found.is_none() || text.is_empty() || text.contains(['.', '[']));
        }
    }

    #[test]
    fn an_age_is_short(seconds in -10_i64..10_000_000_000) {
        prop_assert!(human(SignedDuration::from_secs(seconds)).len() <= 9);
    }
}
