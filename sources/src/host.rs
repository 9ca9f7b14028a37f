//! What the machine of the mesh lends to the programs that sources run on it.

/// The machine of the mesh, as far as programs that sources run are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// What a process inherits of the mesh's environment: names and values, none of them secret.
    pub environment: Vec<(String, String)>,
    /// Where an engine that runs containers may listen: `unix:///var/run/docker.sock` or `tcp://127.0.0.1:2375`. The first
    /// that answers is used.
    pub engines: Vec<String>,
}
