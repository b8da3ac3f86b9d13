//! Task tables in files: a dump in, a tree of tasks out.
//!
//! The words of a table are read by [`kexec::task_table::read`]. Its texts are in the image that was running, so that the
//! file of that image is needed, and of no other build of it.
//!
//! - [`image`]: a driver's or a program's file as the image of a table;
//! - [`report`]: which table is of which image, and what is said about it;
//! - [`cli`]: the command line.
#![forbid(unsafe_code)]

pub mod cli;
pub mod image;
pub mod report;
