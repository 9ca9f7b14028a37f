//! Patches of each kind.

use serde_json::{Value, json};

use super::{Generator, set};
use crate::differential::call::Call;
use crate::differential::kinds::Kind;

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

impl Generator {
    pub(super) fn patch(&mut self, kind: &Kind, name: &str) -> Call {
        let call = match self.rng.u32(0..20) {
            0..6 => self.json_patch(kind, name),
            6..12 => self.merge_patch(kind, name),
            12..18 => self.apply(kind, name),
            _ => self.strategic(kind, name),
        };
        call.about(kind.plural, name)
    }

    fn json_patch(&mut self, kind: &Kind, name: &str) -> Call {
        let (field, value) = kind.change();
        let (what, patch) = match self.rng.u32(0..10) {
            0..3 => ("json: set", json!([{"op": "add", "path": field, "value": value}])),
            3 => (
                "json: replace",
                json!([
                    {"op": "replace", "path": "/kind", "value": kind.kind},
                    {"op": "add", "path": field, "value": value},
                ]),
            ),
            4 => (
                "json: label",
                json!([{"op": "add", "path": "/metadata/labels", "value": {"team": "blue", "eventing.knative.dev/broker": "default"}}]),
            ),
            5 => (
                "json: failing test",
                json!([{"op": "test", "path": "/metadata/name", "value": "nobody"}]),
            ),
            6 => (
                "json: passing test",
                json!([
                    {"op": "test", "path": "/metadata/name", "value": name},
                    {"op": "add", "path": "/metadata/annotations", "value": {"tested": "yes", "eventing.knative.dev/broker.class": "Weft"}},
                ]),
            ),
            7 => (
                "json: no such place",
                json!([{"op": "replace", "path": "/no/such/place", "value": 1}]),
            ),
            8 => (
                "json: move and copy",
                json!([
                    {"op": "add", "path": "/metadata/labels", "value": {"one": "x", "two": "y", "eventing.knative.dev/broker": "default"}},
                    {"op": "copy", "from": "/metadata/labels/one", "path": "/metadata/labels/three"},
                    {"op": "move", "from": "/metadata/labels/two", "path": "/metadata/labels/four"},
                    {"op": "remove", "path": "/metadata/labels/one"},
                ]),
            ),
            _ => ("json: release", json!([{"op": "remove", "path": "/metadata/finalizers"}])),
        };
        let path = self.path(kind, name) + &self.parameters();
        Call::send(what, "PATCH", path, &patch).media(JSON)
    }

    fn merge_patch(&mut self, kind: &Kind, name: &str) -> Call {
        let about = format!("{}/{name}", kind.plural);
        let (field, value) = kind.change();
        let (what, patch) = match self.rng.u32(0..12) {
            0..3 => {
                let mut patch = json!({});
                set(&mut patch, field, value);
                ("merge: change", patch)
            }
            3 => ("merge: label", json!({"metadata": {"labels": {"team": "red", "gone": null}}})),
            4 => (
                "merge: no labels",
                json!({"metadata": {"labels": {"team": null}, "annotations": {"note": null}}}),
            ),
            5 => ("merge: release", json!({"metadata": {"finalizers": null}})),
            6 => (
                "merge: hold",
                json!({"metadata": {"finalizers": ["example.com/hold", "example.com/other"]}}),
            ),
            7 => (
                "merge: stale",
                json!({"metadata": {"resourceVersion": format!("${{old:{about}}}"), "labels": {"stale": "yes"}}}),
            ),
            8 => (
                "merge: current",
                json!({"metadata": {"resourceVersion": format!("${{rv:{about}}}"), "labels": {"current": "yes"}}}),
            ),
            9 => ("merge: nothing", json!({})),
            10 => (
                "merge: unknown",
                json!({"surprise": {"a": [1]}, "metadata": {"labels": {"u": "v"}}}),
            ),
            _ => {
                let (field, value) = kind.mistyped();
                let mut patch = json!({});
                set(&mut patch, field, value);
                ("merge: mistyped", patch)
            }
        };
        let path = self.path(kind, name) + &self.parameters();
        Call::send(what, "PATCH", path, &patch).media(MERGE)
    }

    fn apply(&mut self, kind: &Kind, name: &str) -> Call {
        let mut object = match self.rng.u32(0..4) {
            // Metadata alone; what a Broker has besides is Knative's admission to fill in.
            0 if kind.kind != "Broker" => json!({
                "apiVersion": kind.group_version, "kind": kind.kind,
                "metadata": {"name": name, "labels": {"applied": self.one_of(&["one", "two"])}},
            }),
            _ => self.object(kind, name),
        };
        if self.rarely(2)
            && let Some(meta) = object["metadata"].as_object_mut()
        {
            meta.remove("namespace");
        }
        let what = match self.rng.u32(0..16) {
            0 => {
                object["metadata"]["resourceVersion"] =
                    format!("${{old:{}/{name}}}", kind.plural).into();
                "apply: stale"
            }
            1 => {
                object["metadata"]["name"] = "other".into();
                "apply: another name"
            }
            2 => {
                object["metadata"]["managedFields"] = json!([]);
                "apply: managed fields"
            }
            3 => {
                object["apiVersion"] = Value::Null;
                "apply: no version"
            }
            4 => {
                object["metadata"]["uid"] = "11111111-1111-4111-8111-111111111111".into();
                "apply: another identity"
            }
            _ => "apply",
        };
        let manager = self.one_of(&["one", "two", "three"]);
        let force = if self.rarely(2) { "&force=true" } else { "" };
        let strict = if self.rarely(5) { "&fieldValidation=Strict" } else { "" };
        let dry = if self.rarely(10) { "&dryRun=All" } else { "" };
        let path = format!("{}?fieldManager={manager}{force}{strict}{dry}", self.path(kind, name));
        Call::send(what, "PATCH", path, &object).media(APPLY)
    }

    fn strategic(&mut self, kind: &Kind, name: &str) -> Call {
        let patch = match self.rng.u32(0..2) {
            0 => json!({"metadata": {"labels": {"strategic": "yes", "gone": null}}}),
            _ => json!({"metadata": {"annotations": {"strategic": "yes"}}}),
        };
        Call::send("strategic", "PATCH", self.path(kind, name), &patch).media(STRATEGIC)
    }
}
