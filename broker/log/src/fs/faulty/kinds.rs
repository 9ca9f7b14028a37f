//! The failures that tests try every call with.

use super::{Call, Effect};

/// The disk is full.
pub(crate) const ENOSPC: i32 = 28;
/// The device is broken.
pub(crate) const EIO: i32 = 5;
/// The process has too many files open.
pub(crate) const EMFILE: i32 = 24;

/// What a call answers, and what it does all the same.
pub(crate) const KINDS: [(i32, Effect); 6] = [
    (EIO, Effect::None),
    (EIO, Effect::Half),
    (EIO, Effect::Whole),
    (ENOSPC, Effect::None),
    (ENOSPC, Effect::Half),
    (EMFILE, Effect::None),
];

/// What makes things durable.
pub(crate) const SYNCS: [Call; 2] = [Call::Sync, Call::SyncDir];

/// What needs a descriptor of its own.
const DESCRIPTORS: [Call; 5] = [Call::Create, Call::Open, Call::List, Call::Lock, Call::SyncDir];

/// Whether a system may answer `call` with this number.
pub(crate) fn is_sensible(number: i32, call: Call) -> bool {
    match number {
        ENOSPC => call.changes(),
        EMFILE => DESCRIPTORS.contains(&call),
        _ => true,
    }
}
