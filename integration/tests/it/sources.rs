//! What every source promises, played against the real system behind it: see `contract`. One file a kind says how that
//! system is started, fed and broken.

mod apiserver;
mod ceph;
mod container;
mod contract;
mod couchdb;
mod gitlab;
mod kafka;
mod nats;
mod prometheus;
mod rabbitmq;
mod redis;
mod upstream;
