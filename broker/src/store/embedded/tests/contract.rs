//! The contract of the port, kept by this backend.

use super::*;
use crate::store::contract::{Backend, Durable, Inspected};

/// A store in a directory of its own, and how it is opened.
struct Embedded {
    options: EmbeddedOptions,
    dir: TempDir,
    open: Option<Arc<EmbeddedStore>>,
}

impl Embedded {
    /// Upkeep goes on all the time; what nobody needs any more is kept.
    fn lively() -> Self {
        Self::with(busy())
    }

    /// Nothing is done behind the back of whoever copies the directory.
    fn still() -> Self {
        Self::with(quiet())
    }

    fn with(options: EmbeddedOptions) -> Self {
        let options = EmbeddedOptions { history_bytes: 64 << 20, ..options };
        Self { options, dir: TempDir::new().unwrap(), open: None }
    }

    fn start(&mut self) -> Arc<dyn Inspected> {
        let store = EmbeddedStore::open(self.dir.path(), self.options.clone()).unwrap();
        self.open = Some(Arc::clone(&store));
        store
    }
}

impl Backend for Embedded {
    fn open(&mut self) -> BoxFuture<'_, Arc<dyn Inspected>> {
        Box::pin(async { self.start() })
    }
}

impl Durable for Embedded {
    fn restart(&mut self, store: Arc<dyn Inspected>) -> BoxFuture<'_, Arc<dyn Inspected>> {
        drop(store);
        self.open.take().unwrap().close();
        Box::pin(async { self.start() })
    }

    fn kill(&mut self, store: Arc<dyn Inspected>) -> BoxFuture<'_, Arc<dyn Inspected>> {
        let dir = TempDir::new().unwrap();
        copy(self.dir.path(), dir.path());
        self.open.take().unwrap().close();
        drop(store);
        self.dir = dir;
        Box::pin(async { self.start() })
    }
}

crate::store_contract!(Embedded::lively());
crate::durable_store_contract!(Embedded::still());
