//! `weft controller`: the mesh, with the resources of a cluster.

use std::io::Write;

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::up;
use crate::cli::ControllerArgs;
use crate::wire::{Cluster, Control};

pub(super) async fn run(args: ControllerArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let options =
        KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let config = match (&args.kubeconfig, &args.context) {
        (Some(path), _) => {
            let kubeconfig =
                Kubeconfig::read_from(path).with_context(|| format!("read {}", path.display()))?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.context("use it")?
        }
        (None, Some(_)) => kube::Config::from_kubeconfig(&options)
            .await
            .context("use that context of your kubeconfig")?,
        (None, None) => kube::Config::infer().await.context(
            "no cluster is known: name a kubeconfig with --kubeconfig FILE or KUBECONFIG",
        )?,
    };
    let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let client = kube::Client::try_from(config).context("make a client")?;
    let (events_url, lease_namespace) = (args.events_url, args.lease_namespace);
    let cluster = Cluster { client, url, events_url, lease_namespace };
    up::start(args.run, Control::Cluster(Box::new(cluster)), out).await
}
