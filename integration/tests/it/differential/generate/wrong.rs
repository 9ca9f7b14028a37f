//! What clients should not send.

use serde_json::{Value, json};

use super::{Generator, set};
use crate::differential::call::Call;
use crate::differential::kinds::Kind;

/// Queries of a list that ask for what there cannot be.
const QUERIES: [&str; 16] = [
    "labelSelector=a%20b%20c",
    "labelSelector=%3D",
    "labelSelector=team%20in%20red",
    "labelSelector=-bad-%3Dx",
    "labelSelector=a%3D-bad-",
    "fieldSelector=spec.nothing%3Dx",
    "fieldSelector=metadata.name",
    "fieldSelector=%3Da",
    "continue=garbage",
    "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MCwic3RhcnQiOiJcdTAwMDAifQ",
    "limit=many",
    "resourceVersion=garbage",
    "resourceVersionMatch=Exact",
    "resourceVersionMatch=Garbage&resourceVersion=1",
    "resourceVersion=0&resourceVersionMatch=Exact",
    "watch=true&sendInitialEvents=true",
];

/// Options of a write that there are not.
const OPTIONS: [&str; 4] =
    ["dryRun=Some", "fieldValidation=Rigid", "fieldManager=%01", "force=true"];

impl Generator {
    pub(super) fn wrong(&mut self, kind: &Kind, name: &str) -> Call {
        match self.rng.u32(0..22) {
            0..9 => self.wrong_request(kind, name),
            9..15 => self.wrong_body(kind, name),
            _ => self.wrong_object(kind, name),
        }
    }

    fn wrong_request(&mut self, kind: &Kind, name: &str) -> Call {
        let (path, all) = (self.path(kind, name), kind.path(&self.namespace));
        let object = kind.object(&self.namespace, name, 0);
        let elsewhere = format!("/apis/surprise.example/v1/namespaces/{}/x", self.namespace);
        match self.rng.u32(0..14) {
            0..6 => Call::get("wrong query", format!("{all}?{}", self.one_of(&QUERIES))),
            6 => {
                let options = self.one_of(&OPTIONS);
                Call::send("wrong option", "PATCH", format!("{path}?{options}"), &json!({}))
                    .media("application/merge-patch+json")
            }
            7 => Call::get("unknown kind", all.replace(kind.plural, "surprises")),
            8 => Call::get("unknown group", elsewhere),
            9 => Call::get("unknown subresource", format!("{path}/scale")),
            10 => Call::send("wrong method", self.one_of(&["PUT", "PATCH"]), path, &object),
            11 => Call::send("create with a slash", "POST", all + "/", &object)
                .about(kind.plural, name),
            12 => Call::get("no such form", path)
                .accept(self.one_of(&["text/html", "application/xml"])),
            _ => Call::send(
                "nowhere",
                "POST",
                all.replace(&self.namespace, "nowhere"),
                &json!({
                    "apiVersion": kind.group_version, "kind": kind.kind, "metadata": {"name": name},
                }),
            ),
        }
    }

    fn wrong_body(&mut self, kind: &Kind, name: &str) -> Call {
        let (path, all) = (self.path(kind, name), kind.path(&self.namespace));
        let object = kind.object(&self.namespace, name, 0);
        match self.rng.u32(0..6) {
            0 => Call::send("wrong content type", "POST", all, &object)
                .media(self.one_of(&["text/plain", "application/xml"])),
            1 => {
                let media = ["application/json", "text/plain", "application/x-patch"];
                Call::send("wrong patch type", "PATCH", path, &json!({})).media(self.one_of(&media))
            }
            2 => {
                let bodies =
                    ["{", "[]", "\"text\"", "{\"a\":}", "", "null", "{\"metadata\":[]}", "{} {}"];
                Call::send("malformed body", "POST", all, &Value::Null).text(self.one_of(&bodies))
            }
            3 => {
                let bodies = [
                    "{",
                    "{}",
                    r#"[{"op":"fly"}]"#,
                    r#"[{"op":"add"}]"#,
                    "[1]",
                    r#"[{"op":"add","path":"x","value":1}]"#,
                ];
                Call::send("malformed json patch", "PATCH", path, &Value::Null)
                    .media("application/json-patch+json")
                    .text(self.one_of(&bodies))
            }
            4 => Call::send("malformed merge patch", "PATCH", path, &Value::Null)
                .media("application/merge-patch+json")
                .text(self.one_of(&["{", "[]", "1", "null", "\"x\""])),
            _ => {
                let bodies = [
                    r#"{"propagationPolicy":"Sideways"}"#,
                    r#"{"dryRun":["Some"]}"#,
                    r#"{"kind":"ConfigMap","apiVersion":"v1"}"#,
                    r#"{"propagationPolicy":"Orphan","orphanDependents":true}"#,
                    "{",
                ];
                Call::send("wrong deletion", "DELETE", path, &Value::Null)
                    .text(self.one_of(&bodies))
            }
        }
    }

    fn wrong_object(&mut self, kind: &Kind, name: &str) -> Call {
        let mut object = kind.object(&self.namespace, name, 0);
        let what = match self.rng.u32(0..3) {
            0 => {
                let (field, value) = kind.mistyped();
                set(&mut object, field, value);
                "mistyped"
            }
            // An Event can have any name there, which is of no use to anybody.
            1 if kind.kind != "Event" => return self.misnamed(kind),
            _ => {
                let (field, value) = self.one_of(&[
                    ("labels", json!({"a b": "c"})),
                    ("labels", json!({"a": "b c"})),
                    ("labels", json!({"a": 1})),
                    ("annotations", json!({"a b": "c"})),
                    ("finalizers", json!(["no good"])),
                    ("finalizers", json!(["short"])),
                    ("ownerReferences", json!([{"kind": "X"}])),
                    ("generateName", json!("UPPER-")),
                ]);
                // An Event's prefix is not looked at there.
                if field != "generateName" || kind.kind != "Event" {
                    object["metadata"][field] = value;
                }
                "wrong metadata"
            }
        };
        Call::send(what, "POST", kind.path(&self.namespace), &object).about(kind.plural, name)
    }

    fn misnamed(&mut self, kind: &Kind) -> Call {
        let name = self.one_of(&["", "UPPER", "a/b", "-a", "a b", "a..b"]);
        let mut object = kind.object(&self.namespace, name, 0);
        if name.is_empty()
            && let Some(meta) = object["metadata"].as_object_mut()
        {
            meta.remove("name");
        }
        Call::send("wrong name", "POST", kind.path(&self.namespace), &object)
    }
}
