//! Redis: the entries of a stream, with the attributes Knative's `RedisStreamSource` gives them.
//!
//! A source reads through a consumer group, so Redis keeps how far it came. What differs from Knative's, for the better: an
//! entry is acknowledged only once its event is durable, the group survives restarts, entries of consumers that died are
//! taken over, `dialOptions` mean something, and neither events nor logs show credentials.
//!
//! The key that a stream is lives on one server, so a cluster needs nothing but to be followed to that one.

use std::time::Duration;

use broker_event::EventBuilder;
use crds::annotation::START;
use crds::condition::CloudEventAttributes;
use futures_util::future::try_join_all;
use tokio::time::{sleep, timeout};

use crate::given::{Given, Need};
use crate::source::{About, Context, Source, SourceError};

mod address;
pub(crate) mod connect;
mod entry;
mod group;
mod heir;
mod losses;
mod payload;
mod position;
mod reader;
mod spec;
pub(crate) mod trouble;

pub use address::{Address, AddressError};
pub(crate) use payload::DATA;
/// What the sink shares: the way to a server and a stream.
pub(crate) use spec::RedisStreamSource as Way;
pub use spec::{DialOptions, MAX_CONSUMERS, PAYLOAD, PasswordReference, RedisStreamSource};

use connect::Peer;
use group::{Control, Group};
use losses::Losses;
use payload::Shape;
use position::{Memory, acknowledged};
use reader::{BLOCK, Reader, TYPE, Until, Work};
use spec::{CONSUMERS, Start};

/// How often Redis is asked how much waits, and what was acknowledged is remembered. As much comes twice when somebody destroys
/// the group as was acknowledged in that time.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long the last look may take when the source is asked to stop, of the second that it has for all.
const LAST_LOOK: Duration = Duration::from_millis(300);

/// How long it is tried to remove the group of a source that is removed. A group that stays costs Redis some bytes; a source
/// that cannot be removed because its server is no more costs somebody an afternoon.
const RETIRE_FOR: Duration = Duration::from_secs(10);

/// Waits between such attempts.
const RETIRE_AGAIN: Duration = Duration::from_secs(1);

impl Source for RedisStreamSource {
    fn needs(&self, _: &About) -> Vec<Need> {
        self.secrets()
    }

    fn attributes(&self, _: &About, _: &Given) -> Vec<CloudEventAttributes> {
        vec![CloudEventAttributes {
            kind: TYPE.to_owned(),
            source: self.address.source(&self.stream),
        }]
    }

    fn leaves_traces(&self, _: &About) -> bool {
        self.group.is_empty()
    }

    async fn run(self, ctx: Context) -> Result<(), SourceError> {
        let stop = ctx.stop.clone();
        let opened = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            opened = Session::open(self, ctx) => opened?,
        };
        Box::pin(opened.work()).await
    }

    async fn retire(self, ctx: Context) -> Result<(), SourceError> {
        let group = Group::of(&self, &ctx.about);
        let mut last = None;
        let removal = async {
            loop {
                match destroy(&self, &ctx, &group).await {
                    Err(error) if error.is_retryable() => last = Some(error),
                    ended => return ended,
                }
                sleep(RETIRE_AGAIN).await;
            }
        };
        let removed = tokio::select! {
            biased;
            () = ctx.stop.cancelled() => return Err(SourceError::Stopped),
            removed = timeout(RETIRE_FOR, removal) => removed,
        };
        let error = match removed {
            Ok(removed) => removed.err(),
            Err(_) => last,
        };
        if let Some(error) = error {
            tracing::warn!(group = group.name, %error, "the consumer group stays in Redis");
        }
        Ok(())
    }
}

async fn destroy(
    spec: &RedisStreamSource,
    ctx: &Context,
    group: &Group,
) -> Result<(), SourceError> {
    let (mut control, _) = Control::open(Peer::new(spec, &ctx.given)?, group).await?;
    control.destroy(group).await
}

/// A source that found its group.
struct Session {
    work: Work,
    control: Control,
    memory: Memory,
    readers: Vec<::redis::aio::MultiplexedConnection>,
}

impl Session {
    async fn open(spec: RedisStreamSource, ctx: Context) -> Result<Self, SourceError> {
        let group = Group::of(&spec, &ctx.about);
        let peer = Peer::new(&spec, &ctx.given)?;
        let (start, shape) = annotations(&ctx.about)?;
        let mut memory = Memory::recall(ctx.checkpoint.clone(), &spec, &group).await?;
        let losses = Losses::default();
        let (mut control, found) = Control::open(peer, &group).await?;
        if found.is_none() {
            control.create(&group, &memory, start).await?;
        }
        let state = control.state(&group).await?;
        let removed = control.unread(&group, state).await?;
        let removed = removed.map_or(0, |removed| memory.newly_removed(removed));
        look(&ctx, &group, &mut control, &mut memory).await?;
        losses.unread(&ctx, removed);
        let mut readers = Vec::with_capacity(group.readers);
        for _ in 0..group.readers {
            readers.push(control.peer.connect(BLOCK).await?);
        }
        ctx.report.fact(CONSUMERS, group.readers);
        ctx.report.running();
        let source = spec.address.source(&spec.stream);
        let template = EventBuilder::new("", source, TYPE).data_content_type("application/json");
        let work = Work { ctx, group, losses, template, shape };
        Ok(Self { work, control, memory, readers })
    }

    /// Works until the source is asked to stop.
    async fn work(self) -> Result<(), SourceError> {
        let Self { work, mut control, mut memory, readers } = self;
        let readers = readers.into_iter().enumerate().map(|(index, connection)| {
            let (name, control) = (work.group.reader(index), control.clone());
            Reader { work: &work, name, connection, control }.run(Until::Stopped)
        });
        let inherit = async {
            // A paused source leaves everything where it is.
            if work.group.readers == 0 { Ok(()) } else { heir::inherit(&work, &control).await }
        };
        let watch = watch(&work, control.clone(), &mut memory);
        tokio::try_join!(try_join_all(readers), inherit, watch)?;
        // Once more, for whoever destroys the group before the next start. What was remembered before is true as well.
        let last = look(&work.ctx, &work.group, &mut control, &mut memory);
        if let Ok(Err(error)) = timeout(LAST_LOOK, last).await {
            tracing::debug!(%error, "the last look failed");
        }
        Ok(())
    }
}

/// Says how much waits, and remembers how far the source came, until the source is asked to stop.
async fn watch(work: &Work, mut control: Control, memory: &mut Memory) -> Result<(), SourceError> {
    let looks = async {
        loop {
            sleep(LOOK_EVERY).await;
            look(&work.ctx, &work.group, &mut control, memory).await?;
        }
    };
    tokio::select! {
        biased;
        () = work.ctx.stop.cancelled() => Ok(()),
        failed = looks => failed,
    }
}

async fn look(
    ctx: &Context,
    group: &Group,
    control: &mut Control,
    memory: &mut Memory,
) -> Result<(), SourceError> {
    // In this order: what is not pending later than the state is known was acknowledged.
    let state = control.state(group).await?;
    let oldest = control.oldest(group).await?;
    if !memory.knows_removed()
        && let Some(removed) = control.unread(group, state).await?
    {
        // What went before anybody counted is no news.
        memory.newly_removed(removed);
    }
    if let Some(lag) = control.lag(group, state).await? {
        ctx.lag(lag.saturating_add(state.pending));
    }
    memory.remember(acknowledged(state, oldest)).await;
    Ok(())
}

/// What Weft's annotations say.
fn annotations(about: &About) -> Result<(Start, Shape), SourceError> {
    let wrong = |key: &str| SourceError::Config(format!("the annotation {key} is not understood"));
    let read = |key: &str| about.annotations.get(key).map(String::as_str);
    let start = read(START).map(|text| Start::parse(text).ok_or_else(|| wrong(START)));
    let shape = read(PAYLOAD).map(|text| Shape::parse(text).ok_or_else(|| wrong(PAYLOAD)));
    Ok((start.transpose()?.unwrap_or_default(), shape.transpose()?.unwrap_or_default()))
}

#[cfg(test)]
mod tests;
