//! The consumer that takes over what others left: readers that there are no more since the source was scaled down, and
//! consumers of others who share the group and have died.

use std::time::Duration;

use ::redis::Value;
use tokio::time::sleep;

use super::entry::{Id, Malformed, count, id_of, list, text};
use super::group::{Control, Group, field};
use super::reader::{Reader, Until, Work};
use super::trouble::malformed;
use crate::source::SourceError;

/// How long a consumer of somebody else must have done nothing before its entries are taken over. It may be busy with a sink
/// that does not answer, and then an entry is delivered twice; so this is longer than such sinks usually take to come back.
const ABANDONED: Duration = Duration::from_secs(300);

/// How often the heir looks.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Entries that are taken over with one command.
const PAGE: usize = 100;

/// Another consumer of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Consumer {
    pub(super) name: String,
    /// How many entries it has not acknowledged.
    pub(super) pending: u64,
    /// Milliseconds since it last did something.
    pub(super) idle: u64,
}

/// An entry that a consumer has not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) id: Id,
    /// Milliseconds since it was handed to the consumer.
    pub(super) idle: u64,
}

/// Takes over what others left, until the source is asked to stop.
///
/// # Errors
/// When Redis fails, or what is refused cannot be parked.
pub(super) async fn inherit(work: &Work, control: &Control) -> Result<(), SourceError> {
    let mut control = control.clone();
    loop {
        tokio::select! {
            biased;
            () = work.ctx.stop.cancelled() => return Ok(()),
            taken = take_over(work, &mut control) => taken?,
        }
        // What an earlier run took over and did not finish is there too.
        let reader = Reader {
            work,
            name: work.group.heir(),
            connection: control.connection(),
            control: control.clone(),
        };
        reader.run(Until::Settled).await?;
        tokio::select! {
            biased;
            () = work.ctx.stop.cancelled() => return Ok(()),
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

async fn take_over(work: &Work, control: &mut Control) -> Result<(), SourceError> {
    let group = &work.group;
    let what = "look at the consumers";
    let command = group.command("XINFO", Some("CONSUMERS")).arg(&group.name).take();
    let answer = control.tell(&command, what).await?;
    for consumer in consumers(answer).map_err(|error| malformed(what, error))? {
        if let Some(after) = abandoned_after(group, &consumer) {
            take_from(work, control, &consumer, after).await?;
        }
    }
    Ok(())
}

/// How long its entries must have been left alone, if something of this consumer is to be taken over.
pub(super) fn abandoned_after(group: &Group, consumer: &Consumer) -> Option<Duration> {
    if consumer.pending == 0 || group.employs(&consumer.name) {
        None
    } else if group.owns(&consumer.name) {
        // Nobody has that name any more: the source has run with more readers.
        Some(Duration::ZERO)
    } else {
        (Duration::from_millis(consumer.idle) >= ABANDONED).then_some(ABANDONED)
    }
}

async fn take_from(
    work: &Work,
    control: &mut Control,
    from: &Consumer,
    after: Duration,
) -> Result<(), SourceError> {
    let group = &work.group;
    let what = "take over entries";
    let idle = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    let mut start = Id::ZERO;
    loop {
        let mut command = group.command("XPENDING", None);
        command.arg(&group.name).arg(start.to_string()).arg("+").arg(PAGE).arg(&from.name);
        let answer = control.tell(&command, what).await?;
        let page = pending(answer).map_err(|error| malformed(what, error))?;
        let Some(last) = page.last() else { return Ok(()) };
        start = last.id.after();
        let ids: Vec<Id> =
            page.iter().filter(|entry| entry.idle >= idle).map(|entry| entry.id).collect();
        if ids.is_empty() {
            continue;
        }
        let mut command = group.command("XCLAIM", None);
        command.arg(&group.name).arg(group.heir()).arg(idle);
        for id in &ids {
            command.arg(id.to_string());
        }
        let answer = control.tell(command.arg("JUSTID"), what).await?;
        let taken = list(answer).map_err(|error| malformed(what, error))?.len();
        tracing::info!(consumer = from.name, entries = taken, "took over what a consumer left");
        if idle == 0 {
            // Since 7.0 Redis forgets entries that were removed when they are claimed, so they do not come as pending.
            let removed = ids.len().saturating_sub(taken);
            work.losses.removed(&work.ctx, ids.get(..removed).unwrap_or(&ids));
        }
    }
}

/// The consumers in an answer to `XINFO CONSUMERS`.
pub(super) fn consumers(answer: Value) -> Result<Vec<Consumer>, Malformed> {
    let read = |consumer| {
        let consumer = list(consumer)?;
        let number = |name| field(&consumer, name).and_then(count).ok_or(Malformed);
        let name = field(&consumer, "name").cloned().ok_or(Malformed)?;
        Ok(text(name).ok().map(|name| {
            let (pending, idle) = (number("pending"), number("idle"));
            pending.and_then(|pending| Ok(Consumer { name, pending, idle: idle? }))
        }))
    };
    let consumers: Result<Vec<_>, Malformed> = list(answer)?.into_iter().map(read).collect();
    // A name that is no text cannot be one of this source, and nobody uses such.
    consumers?.into_iter().flatten().collect()
}

/// The entries in an answer to `XPENDING` with a range.
pub(super) fn pending(answer: Value) -> Result<Vec<Pending>, Malformed> {
    let read = |entry| {
        let [id, _, idle, _] = <[Value; 4]>::try_from(list(entry)?).map_err(|_| Malformed)?;
        Ok(Pending { id: id_of(id)?, idle: count(&idle).ok_or(Malformed)? })
    };
    list(answer)?.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::{ABANDONED, Consumer, Pending, abandoned_after, consumers, pending};
    use crate::redis::entry::{Id, Malformed, tests::answer};
    use crate::redis::group::tests::group;
    use std::time::Duration;

    fn consumer(name: &str, pending: u64, idle: u64) -> Consumer {
        Consumer { name: name.to_owned(), pending, idle }
    }

    #[test]
    fn what_nobody_works_on_is_taken_over() {
        let group = group("shared", 2);
        let idle = u64::try_from(ABANDONED.as_millis()).unwrap();
        for (name, pending, age, after) in [
            (group.reader(0), 9, idle, None),
            (group.heir(), 9, idle, None),
            (group.reader(2), 9, 0, Some(Duration::ZERO)),
            (group.reader(2), 0, 0, None),
            ("theirs-0".to_owned(), 9, idle - 1, None),
            ("theirs-0".to_owned(), 9, idle, Some(ABANDONED)),
            ("theirs-0".to_owned(), 0, idle, None),
        ] {
            let consumer = consumer(&name, pending, age);
            assert_eq!(abandoned_after(&group, &consumer), after, "{consumer:?}");
        }
    }

    #[test]
    fn answers_about_consumers_are_read() {
        let one = "*6\n$4\nname\n$1\nc\n$7\npending\n:3\n$4\nidle\n:28\n";
        assert_eq!(consumers(answer(&format!("*1\n{one}"))), Ok(vec![consumer("c", 3, 28)]));
        assert_eq!(consumers(answer("*0\n")), Ok(Vec::new()));
        assert_eq!(consumers(answer("*1\n*2\n$4\nname\n$1\nc\n")), Err(Malformed));
        let entry = answer("*1\n*4\n$3\n1-1\n$1\nc\n:32\n:1\n");
        assert_eq!(pending(entry), Ok(vec![Pending { id: Id::parse("1-1").unwrap(), idle: 32 }]));
        assert_eq!(pending(answer("*1\n*2\n$3\n1-1\n$1\nc\n")), Err(Malformed));
    }
}
