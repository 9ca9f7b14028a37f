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
        let (path, all) = (self.path(kind, name), kind.path(&self.namespace));
        let object = kind.object(&self.namespace, name, 0);
        let create = |what, object: &Value| Call::send(what, "POST", &all, object).about(kind.plural, name);
        match self.rng.u32(0..22) {
            0..6 => Call::get("wrong query", format!("{all}?{}", self.one_of(&QUERIES))),
            6 => {
                let options = self.one_of(&OPTIONS);
                Call::send("wrong option", "PATCH", format!("{path}?{options}"), &json!({}))
                    .media("application/merge-patch+json")
            }
            7 => create("wrong content type", &object).media(self.one_of(&["text/plain", "application/xml"])),
            8 => Call::send("wrong patch type", "PATCH", path, &json!({}))
                .media(self.one_of(&["application/json", "text/plain", "application/x-patch"])),
            9 => {
                let bodies = ["{", "[]", "\"text\"", "{\"a\":}", "", "null", "{\"metadata\":[]}", "{} {}"];
                create("malformed body", &Value::Null).text(self.one_of(&bodies))
            }
            10 => {
                let bodies = ["{", "{}", "[{\"op\":\"fly\"}]", "[{\"op\":\"add\"}]", "[1]", "null", "[{\"op\":\"add\",\"path\":\"x\",\"value\":1}]"];
                Call::send("malformed json patch", "PATCH", path, &Value::Null)
                    .media("application/json-patch+json")
                    .text(self.one_of(&bodies))
            }
            11 => Call::send("malformed merge patch", "PATCH", path, &Value::Null)
                .media("application/merge-patch+json")
                .text(self.one_of(&["{", "[]", "1", "null", "\"x\""])),
            12 => Call::get("unknown kind", all.replace(kind.plural, "surprises")),
            13 => Call::get("unknown group", format!("/apis/surprise.example/v1/namespaces/{}/x", self.namespace)),
            14 => Call::get("unknown subresource", format!("{path}/scale")),
            15 => Call::send(
                "wrong method",
                self.one_of(&["POST", "PUT", "PATCH"]),
                if self.rarely(2) { path } else { all.clone() + "/" },
                &object,
            ),
            16 => {
                let mut object = object;
                let (field, value) = kind.mistyped();
                set(&mut object, field, value);
                create("mistyped", &object)
            }
            17 => self.misnamed(kind),
            18 => {
                let mut object = object;
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
                object["metadata"][field] = value;
                create("wrong metadata", &object)
            }
            19 => Call::get("no such form", path).accept(self.one_of(&["text/html", "application/xml"])),
            20 => Call::send("wrong deletion", "DELETE", path, &Value::Null).text(self.one_of(&[
                "{\"propagationPolicy\":\"Sideways\"}",
                "{\"dryRun\":[\"Some\"]}",
                "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\"}",
                "{\"propagationPolicy\":\"Orphan\",\"orphanDependents\":true}",
                "{",
            ])),
            _ => Call::send("nowhere", "POST", all.replace(&self.namespace, "nowhere"), &json!({
                "apiVersion": kind.group_version, "kind": kind.kind, "metadata": {"name": name},
            })),
        }
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
