//! The behaviour the specification asks for: one case a line in `cases.jsonl` (expression, what the event has beside the
//! required attributes, value, error).

use broker_event::{Event, EventBuilder, Value as Attribute};
use serde_json::Value as Json;

use super::{CheckError, Expression, Value};

const CASES: &str = include_str!("cases.jsonl");

fn event(given: &Json) -> Event {
    let or = |name: &str, otherwise| given[name].as_str().unwrap_or(otherwise).to_owned();
    let (id, source) = (or("id", "myId"), or("source", "http://localhost/source"));
    let mut builder = EventBuilder::new(id, source, or("type", "myType"));
    for (name, value) in given.as_object().expect("an object") {
        let text = value.as_str().map(ToOwned::to_owned);
        builder = match (name.as_str(), text) {
            ("id" | "source" | "type" | "specversion", _) => builder,
            ("subject", Some(text)) => builder.subject(text),
            ("time", Some(text)) => builder.time(text),
            (name, Some(text)) => builder.extension(name, Attribute::from(text)),
            (name, None) => builder.extension(
                name,
                match value.as_bool() {
                    Some(truth) => Attribute::from(truth),
                    None => Attribute::from(
                        i32::try_from(value.as_i64().expect("a number")).expect("32 bits"),
                    ),
                },
            ),
        };
    }
    builder.build().expect("an event")
}

/// Value and error kind of `expression` for an event with `given`.
fn outcome(expression: &str, given: &Json) -> (Json, Option<&'static str>) {
    let Ok(expression) = Expression::parse(expression) else { return (Json::Null, Some("parse")) };
    let evaluation = expression.evaluate(&event(given));
    let value = match evaluation.value {
        Value::String(text) => Json::from(&*text),
        Value::Integer(number) => Json::from(number),
        Value::Boolean(truth) => Json::from(truth),
    };
    (value, evaluation.error.map(|error| error.kind.as_str()))
}

fn value(expression: &str) -> Json {
    outcome(expression, &serde_json::json!({})).0
}

fn error(expression: &str) -> Option<&'static str> {
    outcome(expression, &serde_json::json!({})).1
}

#[test]
fn every_case_of_the_specification_holds() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in CASES.lines() {
        let case: Json = serde_json::from_str(line).expect("JSON");
        let (value, error) = outcome(case["expression"].as_str().expect("text"), &case["event"]);
        // A text that does not parse has no value.
        let value_holds =
            error == Some("parse") || case["value"].is_null() || case["value"] == value;
        if !value_holds || case["error"].as_str() != error {
            wrong.push(format!("{line}\n    gives {value} and {error:?}"));
        }
        count += 1;
    }
    assert!(count > 200, "only {count} cases");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn logic_groups_to_the_right_and_is_short() {
    assert_eq!(value("FALSE AND FALSE OR TRUE"), false);
    assert_eq!(value("TRUE XOR TRUE AND FALSE"), true);
    assert_eq!(value("TRUE XOR FALSE OR TRUE"), false);
    assert_eq!(error("TRUE OR missing"), None);
    assert_eq!(error("FALSE XOR missing"), Some("missingAttribute"));
}

#[test]
fn arithmetic_that_leaves_32_bits_is_an_error_and_zero() {
    for expression in
        ["2147483647 + 1", "-2147483648 - 1", "65536 * 65536", "-2147483648 / -1", "-(-2147483648)"]
    {
        assert_eq!(
            (value(expression), error(expression)),
            (0.into(), Some("math")),
            "{expression}"
        );
    }
    assert_eq!((value("-2147483648"), error("-2147483648")), ((-2_147_483_648_i64).into(), None));
    assert_eq!(
        (value("ABS(-2147483648)"), error("ABS(-2147483648)")),
        (2_147_483_647.into(), Some("math"))
    );
    assert_eq!(value("-2147483648 % -1"), 0);
    assert_eq!(error("2147483648"), Some("parse"));
}

#[test]
fn signs_need_no_spaces() {
    assert_eq!(value("4-1"), 3);
    assert_eq!(value("4 -1"), 3);
    assert_eq!(value("+4"), 4);
}

#[test]
fn a_parse_error_says_where_and_what_was_expected() {
    let message = |text| Expression::parse(text).expect_err("no expression").to_string();
    assert_eq!(
        message("type = = 'a'"),
        "at character 8 (\"= 'a'\"): expected a value, an attribute name, a function or \"(\""
    );
    assert_eq!(message("type = 'a"), "at character 8 (\"'a\"): expected the closing quote");
    assert_eq!(message("ABS(1"), "at character 6 (the end): expected \",\" or \")\"");
    assert_eq!(message("é"), "at character 1 (\"é\"): expected an operator, a name or a value");
}

#[test]
fn hostile_nesting_and_length_are_refused() {
    for open in ["(", "NOT ", "- ", "ABS(", "TRUE IN ("] {
        let text = format!("{}1", open.repeat(3000));
        Expression::parse(&text).expect_err("too deep");
    }
    Expression::parse(&format!("1{}", "+1".repeat(3000))).expect_err("too deep");
    Expression::parse(&"x".repeat(100_000)).expect_err("too long");
    let chain = format!("TRUE{}", " AND TRUE".repeat(1500));
    assert_eq!(value(&chain), true);
}

#[test]
fn a_check_finds_what_can_never_decide() {
    let check = |text| Expression::parse(text).expect("parses").check();
    assert_eq!(check("EXISTS a AND b = 1"), Ok(()));
    assert_eq!(check("mybool"), Ok(()));
    assert_eq!(
        check("NOPE(type)"),
        Err(CheckError::Function { name: "NOPE".to_owned(), arguments: 1 })
    );
    assert!(matches!(check("1 + 2"), Err(CheckError::NotBoolean { .. })));
    assert!(matches!(check("LOWER(type)"), Err(CheckError::NotBoolean { .. })));
}
