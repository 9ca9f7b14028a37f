//! `weft filter`: does this event match, and why. Runs without a mesh.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::bail;
use broker_event::Event;
use crds::trigger::Trigger;
use dispatcher::filter::Filter;
use dispatcher::filter::cesql::{Expression, Value};
use serde_json::json;

use crate::cli::{FilterArgs, Output};
use crate::commands::events;
use crate::{output, resources};

/// What is asked of each event.
enum Question {
    Trigger(Filter),
    Cesql(Expression),
    /// An expression that does not parse, and why.
    Unreadable(String),
}

/// The answer for one event.
struct Answer {
    matched: bool,
    /// What the expression evaluates to.
    value: serde_json::Value,
    error: Option<&'static str>,
    reason: String,
}

pub(super) fn run(args: &FilterArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let question = match question(args) {
        Ok(question) => question,
        // Told for every event, so that whoever reads lines gets as many as ever.
        Err(QuestionError::Parse(reason)) if args.output == Output::Json => {
            Question::Unreadable(reason)
        }
        Err(QuestionError::Parse(reason)) => bail!("--cesql: {reason}"),
        Err(QuestionError::Other(error)) => return Err(error),
    };
    let standard_input = [PathBuf::from("-")];
    let files = if args.events.is_empty() { &standard_input[..] } else { &args.events };
    let (mut every, mut failed) = (true, matches!(question, Question::Unreadable(_)));
    for file in files {
        for event in events::read(file)? {
            let answer = question.ask(&event);
            every &= answer.matched;
            failed |= answer.error.is_some();
            print(&event, &answer, args.output, out)?;
        }
    }
    Ok(if failed { 2 } else { u8::from(!every) })
}

enum QuestionError {
    Parse(String),
    Other(anyhow::Error),
}

fn question(args: &FilterArgs) -> Result<Question, QuestionError> {
    match (&args.cesql, &args.file) {
        (Some(text), _) => Expression::parse(text)
            .map(Question::Cesql)
            .map_err(|error| QuestionError::Parse(error.to_string())),
        (None, Some(file)) => {
            trigger(file, args.name.as_deref()).map(Question::Trigger).map_err(QuestionError::Other)
        }
        (None, None) => Err(QuestionError::Other(anyhow::anyhow!(
            "name a Trigger with -f FILE, or an expression with --cesql"
        ))),
    }
}

fn trigger(file: &Path, name: Option<&str>) -> anyhow::Result<Filter> {
    let objects = resources::read(&[file.to_owned()])?;
    let triggers = objects.iter().filter_map(|located| located.object.downcast_ref::<Trigger>());
    let wanted = |trigger: &&Trigger| name.is_none_or(|name| trigger.metadata.name == name);
    let found: Vec<_> = triggers.filter(wanted).collect();
    match found.as_slice() {
        [trigger] => crds_controller::filter(trigger)
            .map_err(|reason| anyhow::anyhow!("{}: {reason}", file.display())),
        [] => bail!("{}: no such Trigger", file.display()),
        several => {
            let names: Vec<_> =
                several.iter().map(|trigger| trigger.metadata.name.as_str()).collect();
            bail!(
                "{}: several Triggers ({}): choose one with --name",
                file.display(),
                names.join(", ")
            )
        }
    }
}

impl Question {
    fn ask(&self, event: &Event) -> Answer {
        match self {
            Self::Trigger(filter) => {
                let verdict = filter.explain(event);
                Answer {
                    matched: verdict.matched,
                    value: verdict.matched.into(),
                    error: None,
                    reason: verdict.reason,
                }
            }
            Self::Unreadable(reason) => Answer {
                matched: false,
                value: false.into(),
                error: Some("parse"),
                reason: reason.clone(),
            },
            Self::Cesql(expression) => {
                let evaluation = expression.evaluate(event);
                let failed = evaluation.error.as_ref();
                let matched = failed.is_none() && evaluation.value == Value::Boolean(true);
                let reason = failed.map_or_else(
                    || format!("the expression is {}", evaluation.value),
                    ToString::to_string,
                );
                let value = match &evaluation.value {
                    Value::Boolean(value) => (*value).into(),
                    Value::Integer(value) => (*value).into(),
                    Value::String(text) => text.as_ref().into(),
                };
                Answer { matched, value, error: failed.map(|error| error.kind.as_str()), reason }
            }
        }
    }
}

fn print(event: &Event, answer: &Answer, how: Output, out: &mut dyn Write) -> anyhow::Result<()> {
    if how == Output::Json {
        let Answer { matched, value, error, reason } = answer;
        let line = json!({ "id": event.id(), "match": matched, "value": value, "error": error, "reason": reason });
        return output::json(out, &line);
    }
    let verdict = if answer.matched { "match   " } else { "no match" };
    writeln!(
        out,
        "{verdict}  {}  {}",
        output::printable(event.id()),
        output::printable(&answer.reason)
    )?;
    Ok(())
}
