//! An in-memory file system that crashes, tears and fills up, for tests.
