//! The testing kit notices what it is there to notice, says which run it was, and does that run again.

mod ask;
mod enumeration;
mod noticed;
