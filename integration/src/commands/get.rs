//! `weft get`: what there is.

use std::io::Write;

use anyhow::Context;
use futures_util::{AsyncBufReadExt, StreamExt};
use http::{Request, header};
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::api::{self, ApiClient, Scope, TABLE, title};
use crate::cli::{GetArgs, ObjectOutput};
use crate::output;

pub(super) async fn run(args: GetArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let api = ApiClient::find(&args.api).await?;
    let kinds = api::kinds(&args.kinds)?;
    let namespace = (!args.all_namespaces).then(|| api.namespace().to_owned());
    let (mut objects, mut found) = (Vec::new(), false);
    for resource in &kinds {
        let scope = Scope { resource, namespace: namespace.as_deref(), version: None };
        let several = kinds.len() > 1;
        for path in paths(&args, scope) {
            match args.output {
                ObjectOutput::Text | ObjectOutput::Wide => {
                    let table = api.get(&path, TABLE).await?;
                    let view =
                        View { args: &args, several, header: true, singular: resource.singular };
                    let rows = view.print(&table, out)?;
                    if several && rows {
                        writeln!(out)?;
                    }
                    found |= rows;
                }
                ObjectOutput::Json | ObjectOutput::Yaml | ObjectOutput::Name => {
                    collect(api.get(&path, "application/json").await?, &mut objects);
                }
            }
        }
    }
    match args.output {
        ObjectOutput::Text | ObjectOutput::Wide if !found && !args.watch => match &namespace {
            Some(namespace) => writeln!(out, "nothing found in namespace {namespace}")?,
            None => writeln!(out, "nothing found")?,
        },
        ObjectOutput::Text | ObjectOutput::Wide => {}
        _ => print_objects(&args, objects, out)?,
    }
    match (args.watch, kinds.as_slice()) {
        (false, _) => Ok(()),
        (true, [resource]) => {
            let scope = Scope { resource, namespace: namespace.as_deref(), version: None };
            watch(&api, &args, scope, out).await
        }
        (true, _) => anyhow::bail!("--watch follows one kind"),
    }
}

/// One request a name, or one for all.
fn paths(args: &GetArgs, scope: Scope<'_>) -> Vec<String> {
    if args.names.is_empty() {
        let query = selection(args, &[]);
        return vec![format!("{}{query}", scope.path())];
    }
    args.names.iter().map(|name| scope.object(name)).collect()
}

fn selection(args: &GetArgs, more: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let selectors = [("labelSelector", &args.selector), ("fieldSelector", &args.field_selector)];
    for (name, value) in selectors {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    query.extend_pairs(more);
    let query = query.finish();
    if query.is_empty() { query } else { format!("?{query}") }
}

fn collect(answer: Value, objects: &mut Vec<Value>) {
    match answer.get("items").and_then(Value::as_array) {
        Some(items) => {
            // A list says once what each of its items is.
            let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
            let kind = text("kind").trim_end_matches("List").to_owned();
            objects.extend(items.iter().cloned().map(|mut item| {
                if let Some(fields) = item.as_object_mut() {
                    fields.entry("apiVersion").or_insert_with(|| json!(text("apiVersion")));
                    fields.entry("kind").or_insert_with(|| json!(kind));
                }
                item
            }));
        }
        None => objects.push(answer),
    }
}

fn print_objects(
    args: &GetArgs,
    mut objects: Vec<Value>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    for object in &mut objects {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    }
    if args.output == ObjectOutput::Name {
        for object in &objects {
            let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
            let resource = api::kind(text("/kind").unwrap_or_default())?;
            writeln!(out, "{}", title(resource, text("/metadata/name").unwrap_or_default()))?;
        }
        return Ok(());
    }
    let answer = match (args.names.len(), objects.len()) {
        (1, 1) => objects.remove(0),
        _ => json!({"apiVersion": "v1", "kind": "List", "items": objects}),
    };
    if args.output == ObjectOutput::Yaml {
        let yaml = serde_saphyr::to_string(&answer).context("write YAML")?;
        return out.write_all(yaml.as_bytes()).context("write");
    }
    writeln!(out, "{}", serde_json::to_string_pretty(&answer)?).context("write")
}

/// How a table of the server is shown.
struct View<'a> {
    args: &'a GetArgs,
    several: bool,
    header: bool,
    singular: &'a str,
}

impl View<'_> {
    /// Prints a table; answers whether it had rows.
    fn print(&self, table: &Value, out: &mut dyn Write) -> anyhow::Result<bool> {
        let list =
            |name: &str| table.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let columns = list("columnDefinitions");
        let wide = self.args.output == ObjectOutput::Wide;
        let shown: Vec<usize> = columns
            .iter()
            .enumerate()
            .filter(|(_, column)| wide || column.get("priority").and_then(Value::as_i64) == Some(0))
            .map(|(index, _)| index)
            .collect();
        let name = |index: &usize| {
            let column = columns.get(*index).and_then(|column| column.get("name"));
            column.and_then(Value::as_str).unwrap_or_default().to_uppercase()
        };
        let mut header: Vec<String> = shown.iter().map(name).collect();
        if self.args.all_namespaces {
            header.insert(0, "NAMESPACE".to_owned());
        }
        let rows: Vec<Vec<String>> = list("rows").iter().map(|row| self.row(row, &shown)).collect();
        if rows.is_empty() {
            return Ok(false);
        }
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        output::table(out, if self.header { &header } else { &[] }, rows, "")?;
        Ok(true)
    }

    fn row(&self, row: &Value, shown: &[usize]) -> Vec<String> {
        let cells = row.get("cells").and_then(Value::as_array);
        let mut shown: Vec<String> =
            shown.iter().map(|index| cell(cells.and_then(|cells| cells.get(*index)))).collect();
        if self.several
            && let Some(name) = shown.first_mut()
        {
            *name = format!("{}/{name}", self.singular);
        }
        if self.args.all_namespaces {
            let namespace = row.pointer("/object/metadata/namespace").and_then(Value::as_str);
            shown.insert(0, namespace.unwrap_or_default().to_owned());
        }
        shown
    }
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Prints changes as they come.
async fn watch(
    api: &ApiClient,
    args: &GetArgs,
    scope: Scope<'_>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let plain = format!("{}{}", scope.path(), selection(args, &[("limit", "1")]));
    let list = api.get(&plain, "application/json").await?;
    let version = list.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    let query =
        selection(args, &[("watch", "true"), ("resourceVersion", version.unwrap_or_default())]);
    let request = Request::get(format!("{}{query}", scope.path()))
        .header(header::ACCEPT, TABLE)
        .body(Vec::new())
        .context("make a request")?;
    let mut lines = Box::pin(api.kube().request_stream(request).await?.lines());
    let view = View { args, several: false, header: false, singular: scope.resource.singular };
    while let Some(line) = lines.next().await {
        let event: Value = serde_json::from_str(&line?).context("read an event")?;
        let object = event.get("object").cloned().unwrap_or_default();
        if event.get("type").and_then(Value::as_str) == Some("ERROR") {
            anyhow::bail!("the watch ended: {}", cell(object.get("message")));
        }
        view.print(&object, out)?;
        out.flush()?;
    }
    Ok(())
}
