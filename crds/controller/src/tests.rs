//! The shell against an API server that does as the test says. Time is paused, so hours pass in a moment.

mod leading;
mod reconciling;
mod scripted;
