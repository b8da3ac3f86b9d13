//! The task table: what it says of tasks, in each of its forms, and what becomes of bytes that are none.
//!
//! In reading order: [`support`]; [`leaves`], every leaf of the library parks under its name; [`rows`], states, counts and
//! labels; [`groups`], executors and scopes, and the tree; [`torn`], rows are whole; [`forms`], live, compact and raw are the
//! same; [`damage`], bytes that are no table.

mod damage;
mod forms;
mod groups;
mod leaves;
mod rows;
mod support;
mod torn;
