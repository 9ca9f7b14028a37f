//! What every source promises, played against the real system behind it: see `contract`. One file a kind says how that
//! system is started, fed and broken.

mod contract;
mod upstream;
