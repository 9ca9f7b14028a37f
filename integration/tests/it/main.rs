//! The proof that the mesh works: the built binary, on free ports, with real subscribers. One file a promise.

mod harness;

mod tidy;
