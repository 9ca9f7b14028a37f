//! Gives new subscriptions the events accepted before a selector knew them, as their start asks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use broker_log::{ReadError, Record};
use roaring::RoaringTreemap;

use super::book::Scan;
use super::durable::Durable;
use super::engine::{Engine, with_causes};
use super::router::stage;
use super::sync::{Woken, lock, now_ms};
use crate::store::{Position, Selector, Slot};

/// Bytes read at once. The cleaner waits for so much at most.
const READ_BYTES: usize = 1 << 20;

/// From so many searching subscriptions on, asking the selector about all of its own costs less than asking for each.
const MANY: usize = 8;

/// How long the scanner waits when the disk cannot be read.
const PAUSE: Duration = Duration::from_secs(1);

/// Nothing wakes it earlier than needed; any long time will do.
const IDLE: Duration = Duration::from_secs(3600);

/// Searches until told to stop.
pub(super) fn run(engine: &Engine) {
    while engine.scanner.wait(IDLE) != Woken::Stop {
        loop {
            match step(engine) {
                Ok(true) => {
                    if engine.scanner.stopped() {
                        return;
                    }
                }
                Ok(false) => break,
                Err(error) => {
                    let error = with_causes(&error);
                    tracing::error!(
                        error,
                        "earlier events cannot be searched for new triggers; trying again"
                    );
                    if engine.scanner.pause(PAUSE) {
                        return;
                    }
                }
            }
        }
    }
}

/// A subscription that searches `from .. to`.
struct Seeker {
    durable: Arc<Durable>,
    slot: Slot,
    from: Position,
    to: Position,
    matched: RoaringTreemap,
}

/// Searches one stretch for all subscriptions of one topic. Answers whether there is more.
fn step(engine: &Engine) -> Result<bool, ReadError> {
    let Some(stream) =
        engine.durables().iter().filter_map(seeker).map(|seeker| seeker.durable.stream).next()
    else {
        return Ok(false);
    };
    let Some(selector) =
        engine.topics.load().by_stream.get(&stream).and_then(|topic| topic.selector())
    else {
        return Ok(false); // removed a moment ago
    };
    let _history = lock(&engine.history);
    let mut seekers: Vec<Seeker> = engine
        .durables()
        .iter()
        .filter(|durable| durable.stream == stream)
        .filter_map(seeker)
        .collect();
    let Some(from) = seekers.iter().map(|seeker| seeker.from).min() else { return Ok(true) };
    let records = engine.log.read(from, READ_BYTES)?;
    let until = records.last().map_or(Position::MAX, |record| record.offset.saturating_add(1));
    for record in records.iter().filter(|record| record.stream == stream) {
        search(record, &*selector, &mut seekers);
    }
    let now = now_ms();
    for seeker in seekers {
        if until > seeker.from {
            let next = until.min(seeker.to);
            seeker.durable.with(|ledger| ledger.scanned(next, seeker.matched, now));
            seeker.durable.bell.notify_one();
        }
    }
    Ok(true)
}

fn seeker(durable: &Arc<Durable>) -> Option<Seeker> {
    let slot = *durable.slot.get()?;
    if !durable.known.load(Ordering::Acquire) {
        return None;
    }
    match durable.with(|ledger| ledger.book().scan) {
        Some(Scan { next, end: Some(end) }) => Some(Seeker {
            durable: Arc::clone(durable),
            slot,
            from: next,
            to: end,
            matched: RoaringTreemap::new(),
        }),
        _ => None,
    }
}

fn search(record: &Record, selector: &dyn Selector, seekers: &mut [Seeker]) {
    let position = record.offset;
    let Some(staged) = stage(record) else { return };
    if seekers.len() < MANY {
        for seeker in seekers {
            if (seeker.from..seeker.to).contains(&position)
                && selector.wants(seeker.slot, &staged.event)
            {
                seeker.matched.insert(position);
            }
        }
        return;
    }
    let mut slots = Vec::new();
    selector.select(&staged.event, &mut slots);
    let mut by_slot: HashMap<Slot, &mut Seeker, foldhash::fast::RandomState> =
        seekers.iter_mut().map(|seeker| (seeker.slot, seeker)).collect();
    for slot in slots {
        if let Some(seeker) =
            by_slot.get_mut(&slot).filter(|seeker| (seeker.from..seeker.to).contains(&position))
        {
            seeker.matched.insert(position);
        }
    }
}
