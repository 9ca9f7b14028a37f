//! The command line: what can be asked, with examples in every `--help`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

mod api;

pub use api::{
    ApiArgs, ApplyArgs, Cascade, CompletionsArgs, DeleteArgs, DescribeArgs, GetArgs,
    KubeconfigArgs, ObjectOutput, WaitArgs,
};

/// An event mesh in one binary: sources, a durable broker, triggers.
#[derive(Debug, Parser)]
#[command(name = "weft", version, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the mesh: take events in, keep them on disk, deliver them
    #[command(after_help = "Examples:
  weft up -f examples/github                       run what a directory of YAML describes
  weft up -f mesh.yaml --data ./data               keep the events in ./data
  weft up --events 0.0.0.0:8080 --api 127.0.0.1:0  listen to everybody; any free port for the API

The YAML is Knative's: Broker, Trigger, sources, Secret, ConfigMap (`weft crds` prints every kind).
Files are followed: save one and it is in force. A mistake is reported with file, line and field,
and the last good state keeps running.")]
    Up(UpArgs),
    /// Build an event and post it to a broker
    #[command(after_help = "Examples:
  weft send --type shop.order.placed --source /shop --json '{\"id\": 7}'
  weft send --broker team/orders --type t --source /s --subject 42 --ext priority=high --data-file order.xml --content-type application/xml
  weft send -f event.json                          a CloudEvent in the JSON format, or an array of them
  cat events.ndjson | weft send -f -               one JSON event a line

Where K_SINK is set, as it is for programs that a source runs, it posts there unless a mesh or a broker is named.")]
    Send(SendArgs),
    /// Watch the events of a broker as they are accepted
    #[command(after_help = "Examples:
  weft tail                                        every event of default/default
  weft tail --broker team/orders --type shop.order.placed
  weft tail --cesql \"subject LIKE 'order-%'\" -o json
  weft tail --from earliest --count 10             the oldest ten still kept")]
    Tail(TailArgs),
    /// A subscriber that prints the events it gets
    #[command(after_help = "Examples:
  weft display                                     listen on 127.0.0.1:9090 and print
  weft display --listen 127.0.0.1:9191 -o json     one JSON event a line
  weft display --status 503                        answer 503 to see retries at work")]
    Display(DisplayArgs),
    /// Does this event match this trigger, or this expression, and why
    #[command(after_help = "Examples:
  weft filter -f trigger.yaml event.json
  weft filter --cesql \"type = 'a' AND EXISTS subject\" event.json
  cat events.ndjson | weft filter -f trigger.yaml -o json

Reads events in the JSON format: one object, an array, or one object a line.
Exit code: 0 every event matches, 1 some do not, 2 an error.")]
    Filter(FilterArgs),
    /// Create and change what files describe
    #[command(after_help = "Examples:
  weft apply -f mesh.yaml
  weft apply -f examples/ping -n team-a
  weft apply -f mesh.yaml --dry-run                what would happen

The same files as kubectl takes; kubectl works too, see `weft kubeconfig`.")]
    Apply(ApplyArgs),
    /// Show what there is
    #[command(after_help = "Examples:
  weft get triggers
  weft get brokers,triggers -A -o wide
  weft get all -l team=shop
  weft get trigger orders -o yaml
  weft get triggers -w                             follow changes")]
    Get(GetArgs),
    /// Show one object whole, and what happened to it
    #[command(after_help = "Examples:
  weft describe trigger orders
  weft describe broker default -n team-a")]
    Describe(DescribeArgs),
    /// Delete what is named, or what files describe
    #[command(after_help = "Examples:
  weft delete trigger orders
  weft delete -f mesh.yaml
  weft delete namespace team-a                     with everything in it")]
    Delete(DeleteArgs),
    /// Wait until an object is as it should be
    #[command(after_help = "Examples:
  weft wait trigger/orders --for condition=Ready
  weft wait broker default --for condition=Ready --timeout 10
  weft wait trigger orders --for delete

Exit code: 0 it is, 2 it was not in time.")]
    Wait(WaitArgs),
    /// How kubectl, kn and client libraries reach the mesh
    #[command(after_help = "Examples:
  weft kubeconfig > weft.kubeconfig && KUBECONFIG=weft.kubeconfig kubectl get triggers
  weft kubeconfig --merge && kubectl get triggers  add it to your own kubeconfig")]
    Kubeconfig(KubeconfigArgs),
    /// Print the definitions of the kinds, for a Kubernetes cluster
    #[command(after_help = "Examples:
  weft crds | kubectl apply --server-side -f -")]
    Crds,
    /// Run the mesh with the resources of a Kubernetes cluster
    #[command(after_help = "Examples:
  weft crds | kubectl apply --server-side -f - && weft controller
  weft controller --context staging --data ./data
  weft controller --events 0.0.0.0:8080 --events-url http://weft.knative-eventing.svc.cluster.local

The same reconcilers as in `weft up`, against the cluster that your kubeconfig names. Of several,
the one that holds the Lease works; the others wait.")]
    Controller(ControllerArgs),
    /// Print a completion script for a shell
    #[command(after_help = "Examples:
  source <(weft completions bash)
  weft completions zsh > ~/.zfunc/_weft")]
    Completions(CompletionsArgs),
    /// Letters that could not be delivered: list, show, redrive, purge
    #[command(subcommand)]
    Parked(ParkedCommand),
    /// Deliver again to a trigger what is still kept, from a time or an offset
    #[command(after_help = "Examples:
  weft replay default/orders --from earliest
  weft replay default/orders --from 2026-11-24T08:00:00Z
  weft replay default/orders --from 18233")]
    Replay(ReplayArgs),
    /// Every trigger's verdict on an event, and every attempt to deliver it
    #[command(after_help = "Examples:
  weft explain 72d3162e-cc78-11e3-81ab-4c9367dc0958
  weft explain order-7 -o json")]
    Explain(ExplainArgs),
    /// Verify a data directory offline
    #[command(after_help = "Examples:
  weft fsck ./data

Reads everything and changes nothing. The mesh must not be running on the directory.
Exit code: 0 sound, 1 problems found, 2 an error.")]
    Fsck(FsckArgs),
}

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Lines and tables for people.
    #[default]
    Text,
    /// JSON.
    Json,
}

/// The most that `--max-event-bytes` may ask for: half of what the log takes at once, so that a batch of the smallest events
/// fits with what is stored beside each.
const MOST_EVENT_BYTES: u64 = 8 << 20;

/// `weft up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// YAML file, or directory of them (*.yaml, *.yml, *.json); may be repeated
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    /// How the mesh runs
    #[command(flatten)]
    pub run: RunArgs,
}

/// `weft controller`.
#[derive(Debug, Args)]
pub struct ControllerArgs {
    /// The kubeconfig of the cluster [default: your own, or the one of the pod]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Which context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// URL under which the cluster reaches the events listener: the addresses of Brokers start with it [default: the listener's own]
    #[arg(long, value_name = "URL")]
    pub events_url: Option<url::Url>,
    /// Namespace of the Lease `weft-controller`, by which one of several works
    #[arg(long, value_name = "NAMESPACE", default_value = "knative-eventing")]
    pub lease_namespace: String,
    /// How the mesh runs
    #[command(flatten)]
    pub run: RunArgs,
}

/// How a mesh runs.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Where events and state are kept [default: the user's state directory, ~/.local/state/weft]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Listener for events and web hooks; port 0 picks a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    pub events: SocketAddr,
    /// Listener of the gateway for functions
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8081")]
    pub gateway: SocketAddr,
    /// Listener for resources, health, metrics and the commands that talk to the mesh
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8082")]
    pub api: SocketAddr,
    /// URL under which the outside reaches the events listener (given to GitHub and others)
    #[arg(long, value_name = "URL")]
    pub public_url: Option<url::Url>,
    /// Largest event or batch taken, in bytes, up to 8 MiB
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20, value_parser = RangedU64ValueParser::<usize>::new().range(1..=MOST_EVENT_BYTES))]
    pub max_event_bytes: usize,
    /// How long in-flight deliveries may take after SIGTERM, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub drain: u64,
    /// How logs are written
    #[arg(long, value_enum, default_value_t)]
    pub log: LogFormat,
}

/// Where the mesh is.
#[derive(Clone, Debug, Args)]
pub struct MeshArgs {
    /// Data directory of the mesh [default: the user's state directory, ~/.local/state/weft]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// URL of the listener to talk to instead of finding it through the data directory
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    pub server: Option<url::Url>,
}

/// The broker that is meant when none is named.
pub const DEFAULT_BROKER: &str = "default/default";

/// A broker by name.
#[derive(Clone, Debug, Args)]
pub struct BrokerArgs {
    /// Broker, as NAME or NAMESPACE/NAME
    #[arg(long, value_name = "BROKER", default_value = DEFAULT_BROKER)]
    pub broker: String,
}

/// `weft send`.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// Where the mesh is; --server is the events listener, such as `http://127.0.0.1:8080`
    #[command(flatten)]
    pub mesh: MeshArgs,
    /// Which broker
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Event (JSON object, array, or one object a line) from a file, or - for standard input
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with_all = ["ty", "json", "data_text", "data_file"])]
    pub file: Option<PathBuf>,
    /// The event's `type`
    #[arg(long = "type", value_name = "TYPE", required_unless_present = "file")]
    pub ty: Option<String>,
    /// The event's `source`
    #[arg(long, value_name = "URI", default_value = "/weft/send")]
    pub source: String,
    /// The event's `id` [default: a new UUID]
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// The event's `subject`
    #[arg(long, value_name = "TEXT")]
    pub subject: Option<String>,
    /// An extension; may be repeated
    #[arg(long = "ext", value_name = "NAME=VALUE")]
    pub extensions: Vec<String>,
    /// Payload as JSON
    #[arg(long, value_name = "JSON", conflicts_with_all = ["data_text", "data_file"])]
    pub json: Option<String>,
    /// Payload as text
    #[arg(long = "data-text", value_name = "TEXT", conflicts_with = "data_file")]
    pub data_text: Option<String>,
    /// Payload from a file, or - for standard input
    #[arg(long = "data-file", value_name = "FILE")]
    pub data_file: Option<PathBuf>,
    /// Media type of the payload [default: application/json for --json, else text/plain or application/octet-stream]
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// How the result is written
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Output,
}

/// `weft tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// Where the mesh is
    #[command(flatten)]
    pub mesh: MeshArgs,
    /// Which broker
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Only this type
    #[arg(long = "type", value_name = "TYPE")]
    pub ty: Option<String>,
    /// Only this source
    #[arg(long, value_name = "SOURCE")]
    pub source: Option<String>,
    /// Only what this CloudEvents SQL expression is true for
    #[arg(long, value_name = "EXPR")]
    pub cesql: Option<String>,
    /// Where to begin: now, earliest, a time (RFC 3339) or an offset
    #[arg(long, value_name = "WHERE", default_value = "now")]
    pub from: String,
    /// Stop after so many events
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// How events are written
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Output,
}

/// `weft display`.
#[derive(Debug, Args)]
pub struct DisplayArgs {
    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9090")]
    pub listen: SocketAddr,
    /// Status to answer with
    #[arg(long, value_name = "CODE", default_value_t = 202, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: u16,
    /// Stop after so many events
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// How events are written
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Output,
}

/// `weft filter`.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// A file with a Trigger (with --name if it holds several)
    #[arg(
        short = 'f',
        long = "file",
        value_name = "FILE",
        required_unless_present = "cesql",
        conflicts_with = "cesql"
    )]
    pub file: Option<PathBuf>,
    /// Which Trigger of the file
    #[arg(long, value_name = "NAME", requires = "file")]
    pub name: Option<String>,
    /// A CloudEvents SQL expression
    #[arg(long, value_name = "EXPR")]
    pub cesql: Option<String>,
    /// Files with events; standard input when none is given, or for -
    #[arg(value_name = "EVENTS")]
    pub events: Vec<PathBuf>,
    /// How verdicts are written
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Output,
}

/// `weft parked …`.
#[derive(Debug, Subcommand)]
pub enum ParkedCommand {
    /// List parked letters, oldest first
    #[command(after_help = "Examples:
  weft parked list
  weft parked list --trigger default/orders -o json
  weft parked list --sources")]
    List(ParkedListArgs),
    /// Show one parked letter whole: the event, and why it was parked
    #[command(after_help = "Examples:
  weft parked show --id order-7
  weft parked show --offset 18233 -o json")]
    Show(ParkedArgs),
    /// Deliver parked letters again
    #[command(after_help = "Examples:
  weft parked redrive --trigger default/orders
  weft parked redrive --all")]
    Redrive(ParkedArgs),
    /// Forget parked letters for good
    #[command(after_help = "Examples:
  weft parked purge --id order-7
  weft parked purge --all")]
    Purge(ParkedArgs),
}

/// `weft parked list`.
#[derive(Debug, Args)]
pub struct ParkedListArgs {
    /// Which letters
    #[command(flatten)]
    pub letters: ParkedArgs,
    /// In their place the events of sources that their sink refuses for good
    #[arg(long, conflicts_with_all = ["trigger", "id", "offset", "all"])]
    pub sources: bool,
}

/// Which parked letters.
#[derive(Debug, Args)]
pub struct ParkedArgs {
    /// Where the mesh is
    #[command(flatten)]
    pub mesh: MeshArgs,
    /// Only of this trigger, as NAME or NAMESPACE/NAME
    #[arg(long, value_name = "TRIGGER")]
    pub trigger: Option<String>,
    /// Only this event id
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Only at this offset
    #[arg(long, value_name = "OFFSET")]
    pub offset: Option<u64>,
    /// All of them (redrive and purge ask for it when nothing else is named)
    #[arg(long)]
    pub all: bool,
    /// How results are written
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Output,
}

/// `weft replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Where the mesh is
    #[command(flatten)]
    pub mesh: MeshArgs,
    /// Trigger, as NAME or NAMESPACE/NAME
    pub trigger: String,
    /// Where to begin: earliest, a time (RFC 3339) or an offset
    #[arg(long, value_name = "WHERE")]
    pub from: String,
    /// How the result is written
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Output,
}

/// `weft explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Where the mesh is
    #[command(flatten)]
    pub mesh: MeshArgs,
    /// The event's id
    pub id: String,
    /// How the result is written
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Output,
}

/// `weft fsck`.
#[derive(Debug, Args)]
pub struct FsckArgs {
    /// The data directory
    pub dir: PathBuf,
    /// How the result is written
    #[arg(short = 'o', long, value_enum, default_value_t)]
    pub output: Output,
}
