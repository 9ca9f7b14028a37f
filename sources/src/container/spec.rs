//! What is wanted of a `ContainerSource`: its fields, and what is refused with which words.

use std::collections::{BTreeMap, HashSet};

use crds::ce_overrides::CloudEventOverrides;
use crds::destination::Destination;
use crds::meta::ObjectMeta;
use crds::object::Rules;
use crds::resource::{AGE, READY, REASON, Resource, Version};
use crds::secret_ref::SecretKeySelector;
use crds::source::{self, SINK, SourceSpec};
use crds::{FieldError, FieldErrors, name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The `runtimeClassName` of containers that are run as processes.
const PROCESS: &str = "process";

/// How many containers a source can have. Pods have a handful; each is a process of this machine.
const MAX_CONTAINERS: usize = 16;

/// Variables and sources of variables of one container. Each is a look-up whenever a Secret changes; pods have dozens.
const MAX_VARIABLES: usize = 256;

/// When an image is pulled.
const POLICIES: [&str; 3] = [ALWAYS, IF_NOT_PRESENT, NEVER];
pub(super) const ALWAYS: &str = "Always";
const IF_NOT_PRESENT: &str = "IfNotPresent";
pub(super) const NEVER: &str = "Never";

/// What a program can be told of its source by `fieldRef`.
pub(super) const NAME: &str = "metadata.name";
pub(super) const NAMESPACE: &str = "metadata.namespace";

/// What a pod can have and is not done here. To leave it out silently would start a program without what it needs.
const NOT_OF_PODS: [&str; 2] = ["initContainers", "volumes"];
/// The same of containers.
const NOT_OF_CONTAINERS: [&str; 2] = ["volumeDevices", "volumeMounts"];

/// A `ContainerSource` runs containers that send events: what they are told to send to is `K_SINK` in their environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["sink"]))]
pub struct ContainerSource {
    /// What is run.
    pub template: PodTemplate,
    /// Where the events go; required. The containers find its URL in the variable `K_SINK`.
    pub sink: Destination,
    /// What the containers change in their events before they send them. They find it in the variable `K_CE_OVERRIDES`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ce_overrides: Option<CloudEventOverrides>,
}

/// A pod template of Kubernetes'. What is not described here is kept, and of no effect outside of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct PodTemplate {
    /// The containers and how they are run.
    pub spec: PodSpec,
    /// The rest of it.
    #[serde(flatten)]
    #[schemars(skip)]
    pub rest: BTreeMap<String, Value>,
}

/// The containers and how they are run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct PodSpec {
    /// The containers, at least one. All of them are kept running.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<Container>,
    /// `process` runs the containers' commands as processes of this machine, without images. Anything else is for clusters.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runtime_class_name: String,
    /// The rest of it.
    #[serde(flatten)]
    #[schemars(skip)]
    pub rest: BTreeMap<String, Value>,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["name"], "x-kubernetes-preserve-unknown-fields" = true))]
pub struct Container {
    /// Its name, unique among the containers.
    pub name: String,
    /// The image; required, but ignored where processes are run.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// When the image is pulled: `Always`, `Never`, or `IfNotPresent`, the default.
    #[schemars(extend("enum" = ["", ALWAYS, IF_NOT_PRESENT, NEVER]))]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image_pull_policy: String,
    /// The program, and what comes before `args`; of the image if it is absent. Required where processes are run. `$(NAME)`
    /// stands for a variable.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The arguments. `$(NAME)` stands for a variable.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The directory it is run in. That of a process is relative to the directory in which the mesh was started.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Variables of its environment. They win over those of `envFrom`, and the last of one name wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// Secrets and `ConfigMaps` of which all keys are variables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<EnvFromSource>,
    /// The rest of it.
    #[serde(flatten)]
    #[schemars(skip)]
    pub rest: BTreeMap<String, Value>,
}

/// A variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["name"]))]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value. `$(NAME)` stands for a variable before it. Excludes `valueFrom`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Where its value is. Excludes `value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvVarSource>,
}

/// Where the value of a variable is: one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct EnvVarSource {
    /// A key of a `ConfigMap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<ConfigMapKeySelector>,
    /// A field of the source itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<FieldSelector>,
    /// A key of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeySelector>,
    /// What only a cluster knows.
    #[serde(flatten)]
    #[schemars(skip)]
    pub rest: BTreeMap<String, Value>,
}

/// A key of a `ConfigMap` in the source's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["name", "key"]))]
pub struct ConfigMapKeySelector {
    /// The name of the `ConfigMap`, in the source's namespace.
    pub name: String,
    /// The key within it.
    pub key: String,
    /// Whether it may be absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A field of the source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["fieldPath"], "x-kubernetes-preserve-unknown-fields" = true))]
pub struct FieldSelector {
    /// `metadata.name` or `metadata.namespace`; a cluster knows more.
    pub field_path: String,
    /// The rest of it.
    #[serde(flatten)]
    #[schemars(skip)]
    pub rest: BTreeMap<String, Value>,
}

/// A Secret or a `ConfigMap` of which all keys are variables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvFromSource {
    /// What stands before each key.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// A `ConfigMap`. Excludes `secretRef`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<LocalReference>,
    /// A Secret. Excludes `configMapRef`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
}

/// An object in the source's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["name"]))]
pub struct LocalReference {
    /// Its name.
    pub name: String,
    /// Whether it may be absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

impl SourceSpec for ContainerSource {
    const RESOURCE: Resource = Resource {
        kind: "ContainerSource",
        plural: "containersources",
        singular: "containersource",
        versions: &[Version {
            name: "v1",
            deprecated: None,
            columns: &[SINK, AGE, READY, REASON],
            schema: source::schema::<Self>,
        }],
        ..source::resource::<Self>()
    };

    fn sink(&self) -> &Destination {
        &self.sink
    }

    fn sink_mut(&mut self) -> &mut Destination {
        &mut self.sink
    }

    fn ce_overrides(&self) -> Option<&CloudEventOverrides> {
        self.ce_overrides.as_ref()
    }

    fn validate(&self, _: &ObjectMeta, _: &Rules<'_>) -> FieldErrors {
        self.template.spec.validate().via("spec").via("template")
    }
}

impl ContainerSource {
    /// Whether its containers are processes of this machine.
    pub(super) fn is_process(&self) -> bool {
        self.template.spec.runtime_class_name == PROCESS
    }
}

impl PodSpec {
    fn validate(&self) -> FieldErrors {
        let mut errors = not_done(&self.rest, &NOT_OF_PODS);
        match self.containers.len() {
            0 => errors.push(FieldError::missing("containers")),
            1..=MAX_CONTAINERS => {}
            found => errors.push(too_many(found, "containers", MAX_CONTAINERS)),
        }
        let mut names = HashSet::new();
        for (index, container) in self.containers.iter().enumerate().take(MAX_CONTAINERS) {
            let mut wrong = container.validate(self.runtime_class_name == PROCESS);
            if !container.name.is_empty() && !names.insert(container.name.as_str()) {
                let error = FieldError::invalid(&container.name, "name");
                wrong.push(error.with_details("another container has this name"));
            }
            errors.also(wrong.via_index(index).via("containers"));
        }
        errors
    }
}

impl Container {
    fn validate(&self, is_process: bool) -> FieldErrors {
        let mut errors = not_done(&self.rest, &NOT_OF_CONTAINERS);
        if self.name.is_empty() {
            errors.push(FieldError::missing("name"));
        } else if let Err(rule) = name::label(&self.name) {
            errors.push(FieldError::invalid(&self.name, "name").with_details(rule));
        }
        if is_process && self.command.first().is_none_or(String::is_empty) {
            let error = FieldError::missing("command");
            errors.push(error.with_details("a process has no image that names its program"));
        }
        if !is_process && self.image.is_empty() {
            errors.push(FieldError::missing("image"));
        }
        let policy = self.image_pull_policy.as_str();
        if !policy.is_empty() && !POLICIES.contains(&policy) {
            let error = FieldError::invalid(policy, "imagePullPolicy");
            errors.push(error.with_details("expected Always, IfNotPresent or Never"));
        }
        for (field, found) in [("env", self.env.len()), ("envFrom", self.env_from.len())] {
            if found > MAX_VARIABLES {
                errors.push(too_many(found, field, MAX_VARIABLES));
                return errors;
            }
        }
        for (index, variable) in self.env.iter().enumerate() {
            errors.also(variable.validate().via_index(index).via("env"));
        }
        for (index, from) in self.env_from.iter().enumerate() {
            errors.also(from.validate().via_index(index).via("envFrom"));
        }
        errors
    }
}

impl EnvVar {
    fn validate(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.name.is_empty() {
            errors.push(FieldError::missing("name"));
        } else if !is_variable(&self.name) {
            let error = FieldError::invalid(format_args!("{:?}", self.name), "name");
            errors.push(error.with_details(VARIABLE));
        }
        if let Some(from) = &self.value_from {
            if !self.value.is_empty() {
                errors.push(FieldError::multiple_one_of(["value", "valueFrom"]));
            }
            errors.also(from.validate().via("valueFrom"));
        }
        errors
    }
}

impl EnvVarSource {
    fn validate(&self) -> FieldErrors {
        const ALL: [&str; 3] = ["configMapKeyRef", "fieldRef", "secretKeyRef"];
        let set = [
            self.config_map_key_ref.is_some(),
            self.field_ref.is_some(),
            self.secret_key_ref.is_some(),
        ];
        match set.iter().filter(|set| **set).count() {
            0 => match self.rest.keys().next() {
                Some(unknown) => {
                    let error = FieldError::disallowed(unknown);
                    error.with_details("it is known in a cluster only").into()
                }
                None => FieldError::missing_one_of(ALL).into(),
            },
            1 => self.validate_the_one(),
            _ => FieldError::multiple_one_of(ALL).into(),
        }
    }

    fn validate_the_one(&self) -> FieldErrors {
        if let Some(selector) = &self.secret_key_ref {
            return selector.validate().via("secretKeyRef");
        }
        if let Some(ConfigMapKeySelector { name, key, optional }) = &self.config_map_key_ref {
            let alike =
                SecretKeySelector { name: name.clone(), key: key.clone(), optional: *optional };
            return alike.validate().via("configMapKeyRef");
        }
        let path = self.field_ref.as_ref().map_or("", |selector| selector.field_path.as_str());
        if [NAME, NAMESPACE].contains(&path) {
            return FieldErrors::new();
        }
        let error = FieldError::invalid(format_args!("{path:?}"), "fieldRef.fieldPath");
        error.with_details("expected metadata.name or metadata.namespace").into()
    }
}

impl EnvFromSource {
    fn validate(&self) -> FieldErrors {
        const BOTH: [&str; 2] = ["configMapRef", "secretRef"];
        let mut errors = FieldErrors::new();
        if !self.prefix.is_empty() && !is_variable(&self.prefix) {
            let error = FieldError::invalid(format_args!("{:?}", self.prefix), "prefix");
            errors.push(error.with_details(VARIABLE));
        }
        let (reference, field) = match (&self.config_map_ref, &self.secret_ref) {
            (Some(map), None) => (map, "configMapRef"),
            (None, Some(secret)) => (secret, "secretRef"),
            (Some(_), Some(_)) => {
                errors.push(FieldError::multiple_one_of(BOTH));
                return errors;
            }
            (None, None) => {
                errors.push(FieldError::missing_one_of(BOTH));
                return errors;
            }
        };
        let path = format!("{field}.name");
        if reference.name.is_empty() {
            errors.push(FieldError::missing(path));
        } else if let Err(rule) = name::subdomain(&reference.name) {
            errors.push(FieldError::invalid(&reference.name, path).with_details(rule));
        }
        errors
    }
}

const VARIABLE: &str = "expected letters, digits and _, and no digit first";

/// Whether every program can be given a variable of that name. Kubernetes allows `-` and `.` as well, which shells drop.
pub(super) fn is_variable(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn not_done(rest: &BTreeMap<String, Value>, fields: &[&'static str]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for field in fields.iter().filter(|field| rest.contains_key(**field)) {
        errors.push(FieldError::disallowed(*field).with_details("it is done in a cluster only"));
    }
    errors
}

fn too_many(found: usize, field: &str, most: usize) -> FieldError {
    FieldError::new(format!("{found} are too many"), [field])
        .with_details(format!("at most {most}"))
}

#[cfg(test)]
mod tests;
