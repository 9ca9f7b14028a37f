//! Where a source remembers how far it came: a small, durable key-value port.

use std::fmt;
use std::io;
use std::sync::Arc;

/// Keeps a few bytes a source. Calls may block: they are made on threads meant for it.
pub trait Checkpoints: fmt::Debug + Send + Sync + 'static {
    /// What was saved last under `key`, if anything was.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&self, key: &str) -> io::Result<Option<Vec<u8>>>;

    /// Replaces what is kept under `key`; durable when it returns.
    ///
    /// # Errors
    /// When it cannot be written; what was there before stays.
    fn save(&self, key: &str, bytes: &[u8]) -> io::Result<()>;

    /// Forgets `key`; called when its source is removed, so that a later source of the same name starts afresh.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn remove(&self, key: &str) -> io::Result<()>;
}

/// One source's place in [`Checkpoints`].
#[derive(Clone, Debug)]
pub struct Checkpoint {
    port: Arc<dyn Checkpoints>,
    key: Arc<str>,
}

impl Checkpoint {
    /// The place called `key`, `kind/namespace/name` by the runner's choice.
    #[must_use]
    pub fn new(port: Arc<dyn Checkpoints>, key: &str) -> Self {
        Self { port, key: key.into() }
    }

    /// What was saved last.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn load(&self) -> io::Result<Option<Vec<u8>>> {
        self.apart(|port, key| port.load(key)).await
    }

    /// Saves; durable when it returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn save(&self, bytes: Vec<u8>) -> io::Result<()> {
        self.apart(move |port, key| port.save(key, &bytes)).await
    }

    /// Forgets.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn remove(&self) -> io::Result<()> {
        self.apart(|port, key| port.remove(key)).await
    }

    /// Runs a blocking call where blocking harms nobody.
    async fn apart<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Checkpoints, &str) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (port, key) = (Arc::clone(&self.port), Arc::clone(&self.key));
        tokio::task::spawn_blocking(move || call(&*port, &key)).await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
pub(crate) mod fake {
    //! Checkpoints in memory, for tests.

    use std::collections::HashMap;
    use std::io;
    use std::sync::Mutex;

    use super::Checkpoints;

    /// Keeps everything in a map.
    #[derive(Debug, Default)]
    pub(crate) struct InMemory(pub(crate) Mutex<HashMap<String, Vec<u8>>>);

    impl Checkpoints for InMemory {
        fn load(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
            Ok(self.0.lock().unwrap().get(key).cloned())
        }

        fn save(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
            self.0.lock().unwrap().insert(key.to_owned(), bytes.to_vec());
            Ok(())
        }

        fn remove(&self, key: &str) -> io::Result<()> {
            self.0.lock().unwrap().remove(key);
            Ok(())
        }
    }
}
