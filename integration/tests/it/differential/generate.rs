//! Sequences of calls, the same for the same seed.

use fastrand::Rng;
use serde_json::{Value, json};

use super::call::{Call, Read};
use super::kinds::{KINDS, Kind, set};

mod patches;
mod reads;
mod wrong;

/// Few names, so that calls meet each other's objects.
const NAMES: [&str; 3] = ["a", "b", "c"];
const VARIANTS: usize = 3;

/// Makes calls in one namespace.
pub(crate) struct Generator {
    rng: Rng,
    namespace: String,
    sentinels: usize,
}

impl Generator {
    pub(crate) fn new(seed: u64, namespace: &str) -> Self {
        Self { rng: Rng::with_seed(seed), namespace: namespace.to_owned(), sentinels: 0 }
    }

    /// The next call, or several that belong together.
    pub(crate) fn next(&mut self) -> Vec<Call> {
        let kind = &KINDS[self.rng.usize(..KINDS.len())];
        let name = self.one_of(&NAMES);
        match self.rng.u32(0..100) {
            0..16 => vec![self.create(kind, name)],
            16..18 => self.generated(kind),
            18..32 => vec![self.update(kind, name)],
            32..54 => vec![self.patch(kind, name)],
            54..62 => vec![self.status(kind, name)],
            62..72 => vec![self.delete(kind, name)],
            72..73 => vec![self.delete_collection(kind)],
            73..75 => self.watch(kind, name),
            75..86 => self.read(kind, name),
            86..98 => vec![self.wrong(kind, name)],
            _ => self.of_namespaces(),
        }
    }

    fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.rng.usize(..choices.len())].clone()
    }

    /// True once in `times`.
    fn rarely(&mut self, times: u32) -> bool {
        self.rng.u32(..times) == 0
    }

    fn path(&self, kind: &Kind, name: &str) -> String {
        format!("{}/{name}", kind.path(&self.namespace))
    }

    /// The parameters of a write, some of the time.
    fn parameters(&mut self) -> String {
        let mut parameters = Vec::new();
        if self.rarely(3) {
            parameters.push(self.one_of(&["fieldManager=one", "fieldManager=two"]));
        }
        if self.rarely(8) {
            parameters.push("dryRun=All");
        }
        if self.rarely(4) {
            let validation =
                ["fieldValidation=Strict", "fieldValidation=Warn", "fieldValidation=Ignore"];
            parameters.push(self.one_of(&validation));
        }
        if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) }
    }

    /// An object, rarely with something odd about it.
    fn object(&mut self, kind: &Kind, name: &str) -> Value {
        let mut object = kind.object(&self.namespace, name, self.rng.usize(..VARIANTS));
        if self.rarely(3) {
            object["metadata"]["labels"]["team"] = (self.one_of(&["red", "blue"])).into();
        }
        if self.rarely(6) {
            object["metadata"]["annotations"]["note"] = "a note".into();
        }
        if self.rarely(8) {
            object["metadata"]["finalizers"] = json!(["example.com/hold"]);
        }
        if self.rarely(12) {
            object["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "${uid:configmaps/a}"}]);
        }
        if self.rarely(8) {
            object["surprise"] = json!({"a": 1});
        }
        if self.rarely(10) {
            object["status"] = json!({"surprise": true});
        }
        if self.rarely(12) {
            object["metadata"]["surprise"] = 1.into();
        }
        object
    }

    fn create(&mut self, kind: &Kind, name: &str) -> Call {
        let mut object = self.object(kind, name);
        if self.rarely(12) {
            object["metadata"]["resourceVersion"] = "7".into();
        } else if self.rarely(12) {
            object["metadata"]["namespace"] = "elsewhere".into();
        } else if self.rarely(12) {
            object["metadata"]["uid"] = "11111111-1111-4111-8111-111111111111".into();
            object["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z".into();
            if kind.group_version.contains("knative") {
                // The others keep it there, though they count none.
                object["metadata"]["generation"] = 9.into();
            }
        }
        let mut parameters = self.parameters();
        if object["metadata"]["resourceVersion"].is_string() {
            // A dry run of it is let through there.
            parameters = parameters.replace("dryRun=All", "");
        }
        let path = kind.path(&self.namespace) + &parameters;
        Call::send("create", "POST", path, &object).about(kind.plural, name)
    }

    /// Creates an object that the server names, and deletes it.
    fn generated(&mut self, kind: &Kind) -> Vec<Call> {
        let mut object = self.object(kind, "x");
        let meta = object["metadata"].as_object_mut().expect("metadata");
        meta.remove("name");
        meta.remove("finalizers");
        meta.insert("generateName".to_owned(), "gen-".into());
        let path = kind.path(&self.namespace);
        vec![
            Call::send("create with a generated name", "POST", &path, &object),
            Call::send("delete what was generated", "DELETE", path + "/${generated}", &Value::Null),
        ]
    }

    fn update(&mut self, kind: &Kind, name: &str) -> Call {
        let mut object = self.object(kind, name);
        let version = match self.rng.u32(0..10) {
            0..6 => "${rv:KIND/NAME}",
            6..8 => "${old:KIND/NAME}",
            _ => "",
        };
        if !version.is_empty() {
            let version = version.replace("KIND", kind.plural).replace("NAME", name);
            object["metadata"]["resourceVersion"] = version.into();
        }
        match self.rng.u32(0..24) {
            0 => object["metadata"]["name"] = "other".into(),
            1 => object["metadata"]["namespace"] = "elsewhere".into(),
            2 => object["metadata"]["uid"] = "11111111-1111-4111-8111-111111111111".into(),
            3 => object["metadata"]["uid"] = format!("${{uid:{}/{name}}}", kind.plural).into(),
            4 => object["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z".into(),
            5 if kind.group_version.contains("knative") => {
                object["metadata"]["generation"] = 77.into()
            }
            6 => object["kind"] = "Other".into(),
            7 => object["apiVersion"] = "example.com/v1".into(),
            // Some of the others would keep it there.
            8 if kind.group_version.contains("knative") => {
                object["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z".into();
            }
            // Of the others, some come back otherwise with the first apply: with what Go writes when nobody does.
            9 if ["configmaps", "secrets"].contains(&kind.plural) => {
                object["metadata"]["managedFields"] = json!([]);
            }
            _ => {}
        }
        let path = self.path(kind, name) + &self.parameters();
        Call::send("update", "PUT", path, &object).about(kind.plural, name)
    }

    fn status(&mut self, kind: &Kind, name: &str) -> Call {
        let path = self.path(kind, name) + "/status";
        let about = |call: Call| call.about(kind.plural, name);
        let conditions = json!([{"type": "Ready", "status": "True", "reason": "Fine"}]);
        match self.rng.u32(0..10) {
            0 => about(Call::get("get status", path)),
            1..4 => {
                // As controllers do: the object as it was seen, with another status. Whoever sends something else beside it
                // gets to own that there, though it is not written.
                let generation = self.rng.u32(1..4);
                let object = json!({
                    "apiVersion": kind.group_version, "kind": kind.kind, "metadata": {"name": name},
                    "status": {"observedGeneration": generation, "conditions": conditions},
                });
                let path = path + &self.parameters();
                let read = Read::WithStatus { versionless: self.rarely(4) };
                about(Call::send("update status", "PUT", path, &object).read(read))
            }
            4..7 => {
                let mut patch = json!({"status": {"observedGeneration": self.rng.u32(1..4)}});
                if self.rarely(2) {
                    set(&mut patch, kind.change().0, kind.change().1);
                }
                let call = Call::send("merge status", "PATCH", path + &self.parameters(), &patch);
                about(call.media("application/merge-patch+json"))
            }
            7 => {
                let patch =
                    json!([{"op": "add", "path": "/status", "value": {"conditions": conditions}}]);
                let call = Call::send("patch status", "PATCH", path, &patch);
                about(call.media("application/json-patch+json"))
            }
            _ => {
                let object = json!({
                    "apiVersion": kind.group_version, "kind": kind.kind, "metadata": {"name": name},
                    "status": {"conditions": conditions, "observedGeneration": self.rng.u32(1..4)},
                });
                let query = self.one_of(&[
                    "?fieldManager=one",
                    "?fieldManager=two",
                    "?fieldManager=two&force=true",
                ]);
                let call = Call::send("apply status", "PATCH", path + query, &object);
                about(call.media("application/apply-patch+yaml"))
            }
        }
    }

    fn delete(&mut self, kind: &Kind, name: &str) -> Call {
        let path = self.path(kind, name);
        let about = format!("{}/{name}", kind.plural);
        let preconditions = |what: &str, text: String| json!({"preconditions": {what: text}});
        let (what, options, query) = match self.rng.u32(0..14) {
            0..4 => ("delete", Value::Null, ""),
            4 => ("delete of that identity", preconditions("uid", format!("${{uid:{about}}}")), ""),
            5 => ("delete of another identity", preconditions("uid", "other".to_owned()), ""),
            6 => (
                "delete of that version",
                preconditions("resourceVersion", format!("${{rv:{about}}}")),
                "",
            ),
            7 => (
                "delete of an old version",
                preconditions("resourceVersion", format!("${{old:{about}}}")),
                "",
            ),
            8 => ("delete, orphaning", json!({"propagationPolicy": "Orphan"}), ""),
            9 => ("delete, dependents first", json!({"propagationPolicy": "Foreground"}), ""),
            10 => ("delete in the background", Value::Null, "?propagationPolicy=Background"),
            11 => ("dry delete", json!({"dryRun": ["All"]}), ""),
            12 => ("dry delete by query", Value::Null, "?dryRun=All"),
            _ => (
                "delete without grace",
                json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "orphanDependents": false}),
                "",
            ),
        };
        Call::send(what, "DELETE", path + query, &options).about(kind.plural, name)
    }

    fn delete_collection(&mut self, kind: &Kind) -> Call {
        let path = kind.path(&self.namespace) + "?labelSelector=team%3Dred";
        Call::send("delete a collection", "DELETE", path, &Value::Null)
    }

    /// Watches what a few calls do, up to an object that is made for the purpose.
    fn watch(&mut self, kind: &Kind, name: &str) -> Vec<Call> {
        let path = kind.path(&self.namespace);
        let mut calls = vec![Call::get("mark", &path)];
        for _ in 0..3 {
            calls.push(self.create(kind, name));
            calls.push(self.patch(kind, name));
        }
        calls.push(self.delete(kind, name));
        self.sentinels += 1;
        let sentinel = format!("sentinel-{}", self.sentinels);
        let mut object = kind.object(&self.namespace, &sentinel, 0);
        object["metadata"]["labels"]["team"] = "red".into();
        calls.push(Call::send("create", "POST", &path, &object).about(kind.plural, &sentinel));
        let selector = self.one_of(&["", "&labelSelector=team%3Dred", "&labelSelector=team"]);
        let watched = format!("{path}?watch=true&resourceVersion=${{mark}}{selector}");
        calls.push(Call::get("watch", watched).read(Read::Until(sentinel.clone())));
        if self.rarely(2) {
            let watched = format!(
                "{path}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
            );
            calls.push(Call::get("watch the state", watched).read(Read::Initial));
        }
        calls.push(Call::send("delete", "DELETE", format!("{path}/{sentinel}"), &Value::Null));
        calls
    }

    /// A namespace comes, holds something, goes and takes nothing more.
    fn of_namespaces(&mut self) -> Vec<Call> {
        self.sentinels += 1;
        let name = format!("{}-{}", self.namespace, self.sentinels);
        let spaces = "/api/v1/namespaces";
        let path = format!("{spaces}/{name}");
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": "red"}}});
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}});
        let about = |call: Call| call.about("namespaces", &name);
        vec![
            about(Call::send("create a namespace", "POST", spaces, &object)),
            about(Call::send("create a namespace again", "POST", spaces, &object)),
            Call::send("create in a namespace", "POST", format!("{path}/configmaps"), &map),
            about(
                Call::send(
                    "label a namespace",
                    "PATCH",
                    &path,
                    &json!({"metadata": {"labels": {"team": "blue"}}}),
                )
                .media("application/merge-patch+json"),
            ),
            Call::get("list namespaces", format!("{spaces}?fieldSelector=metadata.name%3D{name}")),
            about(
                Call::get("table of a namespace", &path)
                    .accept("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
            ),
            about(Call::send("delete a namespace", "DELETE", &path, &Value::Null)),
            about(Call::send("delete a namespace again", "DELETE", &path, &Value::Null)),
            Call::send("create where all goes", "POST", format!("{path}/configmaps"), &map),
            about(Call::get("get a namespace that goes", &path)),
        ]
    }
}
