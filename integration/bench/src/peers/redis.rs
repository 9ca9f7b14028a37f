//! Redis Streams, and a bare member of a group.

use std::ops::Range;

use anyhow::ensure;
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, Client, pipe};

use super::{Peer, Services, text};
use crate::oracle::payload;

/// Entries added in one go, and read in one go.
const BATCH: usize = 500;

/// Redis.
#[derive(Debug)]
pub(crate) struct Redis {
    address: String,
    password: String,
    client: Client,
    _services: Services,
}

impl Redis {
    async fn connection(&self) -> anyhow::Result<MultiplexedConnection> {
        Ok(self.client.get_multiplexed_async_connection().await?)
    }
}

impl Peer for Redis {
    const NAME: &'static str = "Redis Streams";

    async fn start(services: Services) -> anyhow::Result<Self> {
        let told = services.up("redis").await?;
        let (address, password) = (text(&told, "address")?, text(&told, "password")?);
        let client = Client::open(text(&told, "url")?)?;
        Ok(Self { address, password, client, _services: services })
    }

    async fn place(&self, name: &str) -> anyhow::Result<()> {
        let mut connection = self.connection().await?;
        let () = connection.xgroup_create_mkstream(name, "mesh", "0").await?;
        let () = connection.xgroup_create(name, "bare", "0").await?;
        Ok(())
    }

    async fn fill(&self, name: &str, ids: Range<u64>, size: usize) -> anyhow::Result<()> {
        let mut connection = self.connection().await?;
        for batch in ids.collect::<Vec<_>>().chunks(BATCH) {
            let mut commands = pipe();
            for id in batch {
                commands.xadd(name, "*", &[("payload", payload(*id, size).as_ref())]).ignore();
            }
            let () = commands.query_async(&mut connection).await?;
        }
        Ok(())
    }

    async fn drain(
        &self,
        name: &str,
        count: u64,
        first: impl FnOnce() + Send,
    ) -> anyhow::Result<()> {
        let mut connection = self.connection().await?;
        let options = StreamReadOptions::default().group("bare", "one").count(BATCH).block(60_000);
        let (mut first, mut taken) = (Some(first), 0);
        while taken < count {
            let read: StreamReadReply = connection.xread_options(&[name], &[">"], &options).await?;
            if let Some(first) = first.take() {
                first();
            }
            let entries = read.keys.iter().flat_map(|key| key.ids.iter());
            let mut acknowledge = pipe();
            let mut some = false;
            for entry in entries {
                acknowledge.xack(name, "bare", &[&entry.id]).ignore();
                (taken, some) = (taken + 1, true);
            }
            ensure!(some, "{taken} of {count} entries came");
            let () = acknowledge.query_async(&mut connection).await?;
        }
        Ok(())
    }

    fn manifest(&self, name: &str) -> String {
        let Self { address, password, .. } = self;
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: redis}}\nstringData: {{password: '{password}'}}\n\
             ---\napiVersion: sources.knative.dev/v1alpha1\nkind: RedisStreamSource\nmetadata: {{name: {name}}}\nspec:\n  \
             address: 'redis://{address}'\n  stream: {name}\n  group: mesh\n  \
             dialOptions: {{password: {{secretKeyRef: {{name: redis, key: password}}}}}}\n  \
             sink: {{ref: {{apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}}}\n"
        )
    }
}
