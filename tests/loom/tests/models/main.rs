//! The models of kexec's concurrency. Each is searched in every interleaving of at most three preemptions.
//!
//! In reading order: [`support`], the platform and the futures that they share; [`wake`], that no wake is lost;
//! [`run`], that there is one consumer and nobody starves; [`slots`], that a slot has one tenant; [`lifecycle`], that
//! a task ends once; [`order`], that what one side did is seen by the other; [`timers`], that no timer is lost; [`close`],
//! that nobody is left; [`scope`], that members are cancelled one after the other, and none is forgotten;
//! [`sync_signal`], that whoever waits is called; [`sync_order`], that what was done before is seen; [`oneshot`],
//! [`channel`], [`watch`], [`rundown`] and [`spin`], what else tasks wait for each other with; [`trace`], that events are
//! whole.

mod channel;
mod close;
mod lifecycle;
mod oneshot;
mod order;
mod run;
mod rundown;
mod scope;
mod slots;
mod spin;
mod support;
mod sync_order;
mod sync_signal;
mod timers;
mod trace;
mod wake;
mod watch;
