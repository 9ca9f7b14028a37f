//! The arguments of the commands about resources.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Which API.
#[derive(Clone, Debug, Args)]
pub struct ApiArgs {
    /// Data directory of the mesh [default: the user's state directory, ~/.local/state/weft]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// A kubeconfig that names the API instead
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub kubeconfig: Option<PathBuf>,
    /// Which context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace of what names none
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

/// `weft apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Which API
    #[command(flatten)]
    pub api: ApiArgs,
    /// YAML file, or directory of them (*.yaml, *.yml, *.json); may be repeated
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR", required = true)]
    pub files: Vec<PathBuf>,
    /// Check everything, change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// How objects are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ObjectOutput {
    /// Tables.
    #[default]
    Text,
    /// Tables with every column.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Kinds and names.
    Name,
}

/// `weft get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// Which API
    #[command(flatten)]
    pub api: ApiArgs,
    /// Kinds, separated by commas, such as `brokers,triggers`; or a category, such as `all` or `sources`
    #[arg(value_name = "KINDS")]
    pub kinds: String,
    /// Only these
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Of every namespace
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "names"])]
    pub all_namespaces: bool,
    /// Only with these labels, such as `team=shop,tier!=test`
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "names")]
    pub selector: Option<String>,
    /// Only with these fields, such as `metadata.name=orders`
    #[arg(long, value_name = "SELECTOR", conflicts_with = "names")]
    pub field_selector: Option<String>,
    /// How objects are written
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: ObjectOutput,
    /// Follow changes
    #[arg(short = 'w', long, conflicts_with = "names")]
    pub watch: bool,
}

/// `weft describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// Which API
    #[command(flatten)]
    pub api: ApiArgs,
    /// The kind
    #[arg(value_name = "KIND")]
    pub kind: String,
    /// The objects
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
}

/// What becomes of the objects that a deleted one owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Cascade {
    /// They are deleted afterwards.
    #[default]
    Background,
    /// They are deleted before.
    Foreground,
    /// They stay.
    Orphan,
}

/// `weft delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Which API
    #[command(flatten)]
    pub api: ApiArgs,
    /// The kind
    #[arg(value_name = "KIND")]
    pub kind: Option<String>,
    /// The objects
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// YAML file, or directory of them, that describes what goes; may be repeated
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR", conflicts_with = "kind")]
    pub files: Vec<PathBuf>,
    /// What becomes of the objects that these own
    #[arg(long, value_enum, default_value_t)]
    pub cascade: Cascade,
    /// Whether to wait until they are gone
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub wait: bool,
    /// How long, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
    /// Whether it is fine that there is none
    #[arg(long)]
    pub ignore_not_found: bool,
}

/// `weft wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Which API
    #[command(flatten)]
    pub api: ApiArgs,
    /// What is waited for, as KIND/NAME, or a kind and names
    #[arg(value_name = "OBJECT", required = true)]
    pub objects: Vec<String>,
    /// condition=TYPE, condition=TYPE=STATUS, or delete
    #[arg(long = "for", value_name = "GOAL", default_value = "condition=Ready")]
    pub goal: String,
    /// How long, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub timeout: u64,
}

/// `weft kubeconfig`.
#[derive(Debug, Args)]
pub struct KubeconfigArgs {
    /// Data directory of the mesh [default: the user's state directory, ~/.local/state/weft]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Add it to your own kubeconfig, and choose it there
    #[arg(long)]
    pub merge: bool,
}

/// `weft completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}
