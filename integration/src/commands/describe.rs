//! `weft describe`: an object for people, with what happened to it.

use std::io::Write;

use anyhow::Context;
use serde_json::Value;
use url::form_urlencoded;

use crate::api::{self, ApiClient, Scope, TABLE};
use crate::cli::DescribeArgs;
use crate::output;

pub(super) async fn run(args: DescribeArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let api = ApiClient::find(&args.api).await?;
    let resource = api::kind(&args.kind)?;
    let namespace = api.namespace().to_owned();
    let scope = Scope { resource, namespace: Some(&namespace), version: None };
    for (index, name) in args.names.iter().enumerate() {
        if index > 0 {
            writeln!(out, "\n")?;
        }
        let object = api.get(&scope.object(name), "application/json").await?;
        describe(&object, out)?;
        events(&api, &object, out).await?;
    }
    Ok(())
}

fn describe(object: &Value, out: &mut dyn Write) -> anyhow::Result<()> {
    let text = |pointer: &str| match object.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let mut fields = vec![("Name:", text("/metadata/name"))];
    if object.pointer("/metadata/namespace").is_some() {
        fields.push(("Namespace:", text("/metadata/namespace")));
    }
    fields.extend([
        ("API Version:", text("/apiVersion")),
        ("Kind:", text("/kind")),
        ("Created:", text("/metadata/creationTimestamp")),
        ("Labels:", pairs(object.pointer("/metadata/labels"))),
        ("Annotations:", pairs(object.pointer("/metadata/annotations"))),
    ]);
    output::fields(out, &fields)?;
    let secret = text("/kind") == crds::secret::KIND;
    for (title, name) in [("Spec:", "spec"), ("Data:", "data"), ("Status:", "status")] {
        match object.get(name) {
            None | Some(Value::Null) => {}
            Some(data) if name == "data" && secret => {
                writeln!(out, "{title}")?;
                for (key, value) in data.as_object().into_iter().flatten() {
                    let bytes = value.as_str().map_or(0, |text| text.len() / 4 * 3);
                    writeln!(out, "  {}: about {bytes} bytes", output::printable(key))?;
                }
            }
            Some(part) => {
                writeln!(out, "{title}")?;
                let yaml = serde_saphyr::to_string(part).context("write YAML")?;
                for line in yaml.lines() {
                    writeln!(out, "  {}", output::printable(line))?;
                }
            }
        }
    }
    Ok(())
}

fn pairs(map: Option<&Value>) -> String {
    let pairs: Vec<String> = map
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(", ") }
}

async fn events(api: &ApiClient, object: &Value, out: &mut dyn Write) -> anyhow::Result<()> {
    let Some(uid) = object.pointer("/metadata/uid").and_then(Value::as_str) else { return Ok(()) };
    let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
    let resource = api::kind("events")?;
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("fieldSelector", &format!("involvedObject.uid={uid}"))
        .finish();
    let scope = Scope { resource, namespace: namespace.or(Some("default")), version: None };
    let table = api.get(&format!("{}?{query}", scope.path()), TABLE).await?;
    let rows = table.get("rows").and_then(Value::as_array).cloned().unwrap_or_default();
    if rows.is_empty() {
        writeln!(out, "Events:  <none>")?;
        return Ok(());
    }
    writeln!(out, "Events:")?;
    let shown = rows.iter().map(|row| {
        let cells = row.get("cells").and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |index: usize| match cells.get(index) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        };
        // Without the name, and without the object, which is this one.
        vec![text(0), text(1), text(2), text(4)]
    });
    output::table(out, &["LAST SEEN", "TYPE", "REASON", "MESSAGE"], shown.collect(), "")
}
