//! The API as clients see it: requests against the router, over a store in a temporary directory.

mod admitting;
mod deleting;
mod discovering;
mod harness;
mod limits;
mod patching;
mod reading;
mod watching;
mod writing;
