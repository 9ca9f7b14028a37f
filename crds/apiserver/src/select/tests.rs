use crds::admission::Handle;
use crds::config_map::ConfigMap;
use crds::resource::{InFiles, Resource};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn labelled(labels: &[(&str, &str)]) -> Value {
    let labels: serde_json::Map<String, Value> =
        labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    json!({"metadata": {"labels": labels}})
}

fn resource(group: &'static str, kind: &'static str, namespaced: bool) -> Resource {
    Resource {
        group,
        kind,
        plural: "",
        singular: "",
        short_names: &[],
        categories: &[],
        namespaced,
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

#[test]
fn labels_select_by_every_operator() {
    let object = labelled(&[("app", "shop"), ("tier", "web"), ("n", "5"), ("empty", "")]);
    let cases = [
        ("", true),
        ("app", true),
        ("!app", false),
        ("!other", true),
        ("app=shop", true),
        ("app==shop", true),
        ("app = shop , tier = web", true),
        ("app=other", false),
        ("other=shop", false),
        ("app!=shop", false),
        ("other!=shop", true),
        ("app in (shop,bar)", true),
        ("app in (a,b)", false),
        ("other in (a)", false),
        ("app notin (a, b)", true),
        ("app notin (shop)", false),
        ("other notin (a)", true),
        ("empty=", true),
        ("empty in ()", true),
        ("empty in (,a)", true),
        ("app in (a,)", false),
        ("n>4", true),
        ("n>5", false),
        ("n<6", true),
        ("app>1", false),
        ("app=shop,tier!=web", false),
        ("in=in,notin=notin", false),
        ("app,!other,tier in (web),n", true),
    ];
    for (text, expected) in cases {
        let selector = Labels::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(selector.matches(&object), expected, "{text}");
    }
    assert!(Labels::parse("a!=b").unwrap().matches(&json!({})));
}

#[test]
fn malformed_label_selectors_are_refused_with_kubernetes_words() {
    let cases = [
        ("a,", "found '', expected: identifier after ','"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a==!b", "unable to parse requirement: found '!', expected: identifier"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        (
            "a>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(Labels::parse(text), Err(SelectError::Malformed(message.into())), "{text}");
    }
    let begins = [
        (
            "-a=b",
            "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of",
        ),
        (
            "a=-b",
            "unable to parse requirement: values[0][a]: Invalid value: \"-b\": a valid label must be",
        ),
    ];
    for (text, start) in begins {
        let error = Labels::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(start), "{error}");
    }
    assert_eq!(Labels::parse(&"a,".repeat(40_000)), Err(SelectError::TooLong));
}

#[test]
fn fields_select_by_name_and_namespace() {
    let object = json!({"metadata": {"name": "a,b", "namespace": "default"}});
    let trigger = resource("eventing.knative.dev", "Trigger", true);
    let cases = [
        ("", true),
        ("metadata.name=a\\,b", true),
        ("metadata.name==a\\,b,metadata.namespace=default", true),
        ("metadata.name!=a\\,b", false),
        ("metadata.name!=x,metadata.namespace!=y", true),
        ("metadata.namespace=", false),
    ];
    for (text, expected) in cases {
        assert_eq!(Fields::parse(text, &trigger).unwrap().matches(&object), expected, "{text}");
    }
    let selector = Fields::parse("metadata.name=a\\,b,metadata.namespace!=x", &trigger).unwrap();
    assert_eq!(selector.exact("metadata.name"), Some("a,b"));
    assert_eq!(selector.exact("metadata.namespace"), None);
}

#[test]
fn events_are_selected_by_what_they_are_about() {
    let event = resource("", "Event", true);
    let object = json!({
        "involvedObject": {"kind": "Trigger", "name": "t"},
        "reason": "Ready",
        "type": "Normal",
        "source": {"component": "weft"},
    });
    let text = "involvedObject.kind=Trigger,involvedObject.name=t,involvedObject.uid=,reason=Ready,type!=Warning,source=weft";
    assert!(Fields::parse(text, &event).unwrap().matches(&object));
    let newer = json!({"reportingComponent": "weft"});
    assert!(Fields::parse("source=weft,reportingComponent=weft", &event).unwrap().matches(&newer));
}

#[test]
fn each_kind_has_its_own_selectable_fields() {
    let secret = resource("", "Secret", true);
    assert!(Fields::parse("type=Opaque", &secret).unwrap().matches(&json!({"type": "Opaque"})));
    let namespace = resource("", "Namespace", false);
    let active = json!({"status": {"phase": "Active"}});
    assert!(Fields::parse("status.phase=Active", &namespace).unwrap().matches(&active));
    let unsupported = [
        (&namespace, "metadata.namespace=x", "field label not supported: metadata.namespace"),
        (&secret, "data.x=1", "field label not supported: data.x"),
        (
            &resource("", "ConfigMap", true),
            "data.x=1",
            "\"data.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
        (
            &resource("eventing.knative.dev", "Broker", true),
            "spec.x=1",
            "field label not supported: spec.x",
        ),
    ];
    for (resource, text, message) in unsupported {
        let error = Fields::parse(text, resource);
        assert_eq!(error, Err(SelectError::Unsupported(message.into())), "{text}");
    }
}

#[test]
fn malformed_field_selectors_are_refused_with_kubernetes_words() {
    let trigger = resource("eventing.knative.dev", "Trigger", true);
    let cases = [
        ("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
        ("metadata.name=a=b", "invalid field selector: unescaped character in value: 61"),
        ("metadata.name=a\\b", "invalid field selector: invalid escape sequence: \\b"),
        ("metadata.name=a\\", "invalid field selector: invalid escape sequence: \\"),
    ];
    for (text, message) in cases {
        let error = Fields::parse(text, &trigger);
        assert_eq!(error, Err(SelectError::Malformed(message.into())), "{text}");
    }
}

proptest! {
    #[test]
    fn label_selectors_are_read_as_they_are_printed(text in "[a-c!=,() ]{0,12}|([a-c]( (in|notin) \\([a-c, ]{0,6}\\)|!?=[a-c]?|>3|<7)?,){0,3}!?[a-c]") {
        if let Ok(selector) = Labels::parse(&text) {
            prop_assert_eq!(Labels::parse(&selector.to_string()), Ok(selector));
        }
    }

    #[test]
    fn any_value_of_a_field_can_be_selected(value in "\\PC{0,12}") {
        let trigger = resource("eventing.knative.dev", "Trigger", true);
        let text = format!("metadata.name={}", value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\="));
        let selector = Fields::parse(&text, &trigger).unwrap();
        let object = json!({"metadata": {"name": value}});
        prop_assert!(selector.matches(&object));
        prop_assert_eq!(Fields::parse(&selector.to_string(), &trigger), Ok(selector));
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in "\\PC{0,24}") {
        let trigger = resource("eventing.knative.dev", "Trigger", true);
        let labels = Labels::parse(&text).map(|selector| selector.matches(&json!({})));
        let fields = Fields::parse(&text, &trigger).map(|selector| selector.matches(&json!({})));
        prop_assert!(labels.is_ok() || labels.is_err_and(|error| !error.to_string().is_empty()));
        prop_assert!(fields.is_ok() || fields.is_err_and(|error| !error.to_string().is_empty()));
    }
}
