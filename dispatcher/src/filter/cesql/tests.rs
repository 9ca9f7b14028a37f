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
    let brackets = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
    Expression::parse(&brackets).expect_err("too long and too deep");
    Expression::parse(&format!("id = '{}'", "x".repeat(1 << 20))).expect_err("too long");
}

#[test]
fn long_chains_are_no_depth() {
    let chain = |first: &str, link: &str| format!("{first}{}", link.repeat(1500));
    assert_eq!(value(&chain("TRUE", " AND TRUE")), true);
    assert_eq!(value(&chain("1", "+1-0")), 1501);
    assert_eq!(value(&chain("1", "*1")), 1);
    assert_eq!(value(&chain("TRUE", "=TRUE")), true);
    assert_eq!(value(&chain("'true'", " LIKE '%'")), true);
    assert_eq!(value(&chain("1", " IN (1)")), true);
}

/// As deep as the parser allows, with every rank of operators at every level, on half the stack of a thread.
#[test]
fn the_deepest_expressions_fit_the_stack() {
    let check = || {
        for (open, close) in [("TRUE AND 1=1+1*(", ")+1"), ("TRUE XOR 1=1+1*ABS(", ")*1 IN (1)")] {
            let deepest = |levels| format!("{}1{}", open.repeat(levels), close.repeat(levels));
            assert_eq!(error(&deepest(63)), None, "{open}");
            assert_eq!(error(&deepest(65)), Some("parse"), "{open}");
        }
        let brackets = |text: String, _| format!("({text}){}", "+1".repeat(120));
        let text = (0..60).fold("1".to_owned(), brackets);
        assert_eq!(value(&text), text.matches('1').count());
    };
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(check);
    thread.expect("a thread").join().expect("no expression fails");
}

#[test]
fn what_would_take_for_ever_is_given_up_with_an_error() {
    let long = serde_json::json!({ "myext": "a".repeat(1 << 20) });
    let hostile = [
        format!("myext LIKE '%{}b'", "a".repeat(10_000)),
        format!("LENGTH(CONCAT({})) > 0", vec!["myext"; 1000].join(",")),
        format!("CONCAT_WS(myext{}) = 'a'", ",''".repeat(3000)),
        vec!["LOWER(myext) = 'b'"; 600].join(" OR "),
    ];
    for expression in hostile {
        let failed = (false.into(), Some("functionEvaluation"));
        assert_eq!(outcome(&expression, &long), failed, "{expression:.20}");
    }
    assert_eq!(outcome("myext LIKE '%a_a%'", &long), (true.into(), None));
    let many = format!("'{}' LIKE '{}b'", "a".repeat(4000), "%a".repeat(4000));
    assert_eq!((value(&many), error(&many)), (false.into(), None), "what fits is answered");
}

#[test]
fn an_error_does_not_repeat_a_long_text() {
    let event = event(&serde_json::json!({ "myext": "é".repeat(1 << 18) }));
    let evaluation = Expression::parse("myext > 1").expect("parses").evaluate(&event);
    assert!(evaluation.error.expect("no number").message.len() < 200);
}

#[test]
fn a_backslash_escapes_the_quote_and_the_wildcards_only() {
    assert_eq!(value(r"LENGTH('a\\b')"), 4);
    assert_eq!(value(r#"'a\'b' = "a'b""#), true);
    assert_eq!(value(r"'it''s'"), "it's");
    assert_eq!(value(r"'100%' LIKE '100\%'"), true);
    assert_eq!(value(r"'100x' LIKE '100\%'"), false);
    assert_eq!(value(r"'a\x' LIKE 'a\_'"), false);
    assert_eq!(error(r"'open\'"), Some("parse"));
}

#[test]
fn only_letters_and_underscores_name_a_function() {
    assert_eq!(error("NO_SUCH(1)"), Some("missingFunction"));
    for text in ["F1(1)", "_F(1)", "1F(1)", "TRUE(1)", "F (", "F(1,)", "F(,1)"] {
        assert_eq!(error(text), Some("parse"), "{text}");
    }
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
