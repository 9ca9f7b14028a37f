//! Ping sources: what is filled in, and what is refused with which words.

use crds::broker_defaults::BrokerDefaults;
use crds::object::Rules;
use crds::ping_defaults::PingDefaults;
use crds::resource::Catalog;
use crds::source::SourceObject;

use super::*;

fn source(spec: &str) -> SourceObject<PingSource> {
    let mut source: SourceObject<PingSource> =
        serde_json::from_str(&format!(r#"{{"metadata":{{"name":"p"}},"spec":{spec}}}"#)).unwrap();
    source.defaults();
    source
}

fn refused(source: &SourceObject<PingSource>, ping_defaults: PingDefaults) -> String {
    let rules = Rules {
        catalog: Catalog::new(crate::RESOURCES),
        cesql: &|_| Ok(()),
        broker_defaults: &BrokerDefaults::builtin(),
        ping_defaults,
    };
    source.validate(&rules).to_string()
}

fn refusal_within(spec: &str, limits: PingDefaults) -> String {
    let spec = spec.replacen('{', r#"{"sink":{"uri":"http://s/"},"#, 1);
    refused(&source(&spec), limits)
}

fn refusal(spec: &str) -> String {
    refusal_within(spec, PingDefaults::default())
}

#[test]
fn a_source_without_schedule_fires_every_minute() {
    let source = source(r#"{"sink":{"ref":{"apiVersion":"v1","kind":"Service","name":"s"}}}"#);
    assert_eq!(refused(&source, PingDefaults::default()), "");
    assert_eq!(source.spec.timing(), cron::Schedule { timezone: None, expression: "* * * * *" });
    assert_eq!(source.spec.sink.reference.unwrap().namespace, "default");
}

#[test]
fn a_time_zone_stands_in_either_place() {
    assert_eq!(refusal(r#"{"schedule":"0 9 * * *","timezone":"Europe/Berlin"}"#), "");
    assert_eq!(refusal(r#"{"schedule":"CRON_TZ=Europe/Berlin 0 9 * * *"}"#), "");
    let expected =
        "invalid value: provided bad location Mars: unknown time zone Mars: spec.timezone";
    assert_eq!(refusal(r#"{"schedule":"0 9 * * *","timezone":"Mars"}"#), expected);
}

#[test]
fn json_data_is_an_object() {
    let json =
        |data: &str| refusal(&format!(r#"{{"contentType":"application/json","data":{data:?}}}"#));
    assert_eq!(json("{}"), "");
    let array = "invalid value: json: cannot unmarshal array into Go value of type map[string]interface {}: spec.data";
    assert_eq!(json("[]"), array);
    assert!(json("{x}").starts_with("invalid value: "));
    assert_eq!(refusal(r#"{"contentType":"text/plain","data":"[]"}"#), "");
}

#[test]
fn base64_data_is_decoded() {
    assert_eq!(refusal(r#"{"dataBase64":"aGk="}"#), "");
    assert_eq!(refusal(r#"{"dataBase64":"aG\r\nk=\n"}"#), "");
    assert!(refusal(r#"{"dataBase64":"%"}"#).ends_with(": spec.dataBase64"));
    let broken = r#"{"contentType":"application/json","dataBase64":"ew=="}"#;
    assert_eq!(refusal(broken), "invalid value: unexpected end of JSON input: spec.dataBase64");
}

#[test]
fn overrides_and_annotations_are_checked() {
    let refused_overrides = refusal(r#"{"ceOverrides":{"extensions":{"a-b":"x"}}}"#);
    assert_eq!(
        refused_overrides,
        "invalid key name \"a-b\": spec.ceOverrides.extensions\nkeys are expected to be alphanumeric"
    );
    let mut source = source(r#"{"sink":{"uri":"http://s/"}}"#);
    source.metadata.annotations.insert("weft.dev/order".to_owned(), "key".to_owned());
    assert!(
        refused(&source, PingDefaults::default())
            .ends_with("a PingSource has no annotations under weft.dev/")
    );
}

#[test]
fn a_schedule_that_cannot_be_kept_is_refused_with_the_reason() {
    assert_eq!(
        refusal(r#"{"schedule":"0 0 30 2 *"}"#),
        "invalid value: 0 0 30 2 *: spec.schedule\n\"0 0 30 2 *\" names a date that never comes"
    );
}

#[test]
fn data_is_held_to_the_limit() {
    let limits = PingDefaults { data_max_size: Some(4) };
    assert_eq!(refusal_within(r#"{"data":"four"}"#, limits), "");
    assert_eq!(
        refusal_within(r#"{"data":"fives"}"#, limits),
        "invalid value: the data length of 5 bytes exceeds limit set at 4.: spec.data"
    );
    assert_eq!(
        refusal_within(r#"{"dataBase64":"aGVsbG8="}"#, limits),
        "invalid value: the dataBase64 length of 8 bytes exceeds limit set at 4.: spec.dataBase64"
    );
}

#[test]
fn a_media_type_fits_a_header() {
    let refused = refusal(r#"{"contentType":"text/plain\n"}"#);
    assert!(
        refused.starts_with("invalid value: \"text/plain\\n\": spec.contentType\n"),
        "{refused}"
    );
}

/// Two parsers read a schedule: one refuses in Knative's words, the other runs it.
#[test]
fn every_schedule_that_knative_takes_is_kept() {
    let items = [
        "*", "?", "1", "5", "1-5", "*/2", "?/3", "1/2", "1-5/2", "1,3", "1,,3", "*-5", "?-x",
        "*-5/2", "01", "jan", "MON", "mon-fri", "jan-mar", "0", "7", "59", "-1", "+1", "1-", "L",
        "1#2", "5W", "",
    ];
    for field in 0..6 {
        for item in items {
            let mut fields = ["0", "0", "0", "1", "1", "*"];
            fields[field] = item;
            let schedule = fields.join(" ");
            if cron::check(&schedule).is_ok() {
                let source = PingSource { schedule: schedule.clone(), ..PingSource::default() };
                assert!(source.schedule().is_ok(), "{schedule}");
            }
        }
    }
}
