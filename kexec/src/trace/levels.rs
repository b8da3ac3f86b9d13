//! The level of each module, as it is now.
//!
//! What every event reads is one word: the highest level that any module has, and a generation. A place that emits
//! keeps the level of its module together with the generation at which it looked, and looks again when that is another.
//!
//! The rules are plain words, written by one at a time, and only believed by whoever has read a later generation. A
//! reader that comes by while a name is being written does not find it, and will look again at the next generation.
#![forbid(unsafe_code)]
#![cfg_attr(not(loom), expect(unreachable_pub, reason = "the models reach it"))]
#![cfg_attr(
    loom,
    expect(
        clippy::new_without_default,
        clippy::must_use_candidate,
        clippy::missing_errors_doc,
        reason = "it is public for the models only"
    )
)]

use core::{
    array, fmt,
    sync::atomic::{
        AtomicU64 as PlainU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use super::Level;
use crate::atomics::{AtomicU32, AtomicU64, const_fn};

/// How many modules can have a level of their own; the models need two.
const MODULES: usize = if cfg!(loom) { 2 } else { 16 };
/// A module's name in words.
const NAME: usize = if cfg!(loom) { 1 } else { 6 };
const NAME_BYTES: usize = NAME * size_of::<u64>();

/// The level in the word.
const LEVEL: u64 = 0xFF;
/// The lowest bit of the generation in it.
const GENERATION: u64 = LEVEL + 1;
/// A rule that does not count.
const UNSET: u32 = u32::MAX;

/// A level that was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelError<'a> {
    /// There is no level of this name.
    Unknown(&'a str),
    /// The module's name is empty or too long.
    Module(&'a str),
    /// Too many modules have had levels of their own to set one for this one.
    Full(&'a str),
    /// Somebody else is setting a level.
    Busy,
}

impl fmt::Display for LevelError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => {
                write!(f, "`{name}` is no level; the levels are off, error, warn, info, debug and trace")
            }
            Self::Module(name) => {
                write!(
                    f,
                    "`{name}` cannot name a module here: give 1 to {NAME_BYTES} bytes, or an outer module"
                )
            }
            Self::Full(name) => write!(
                f,
                "{MODULES} modules have had levels of their own, so that `{name}` cannot; set an outer module's"
            ),
            Self::Busy => f.write_str("somebody else is setting a level; try again"),
        }
    }
}

impl core::error::Error for LevelError<'_> {}

/// The levels of an image.
#[derive(Debug)]
pub struct Levels {
    /// The highest level of any module, zero while nobody listens; above it, the generation.
    word: AtomicU64,
    /// Set while a rule is being changed.
    changing: AtomicU32,
    /// The level of modules without a rule.
    default: AtomicU32,
    rules: [Rule; MODULES],
}

/// A module's level. Once it is named it stays that module's.
#[derive(Debug)]
struct Rule {
    /// Zero if it is free, as are all behind it.
    length: AtomicU32,
    name: [AtomicU64; NAME],
    level: AtomicU32,
}

impl Rule {
    const_fn! {
        fn new() -> Self {
            #[cfg(not(loom))]
            let name = [const { AtomicU64::new(0) }; NAME];
            #[cfg(loom)]
            let name = array::from_fn(|_| AtomicU64::new(0));
            Self { length: AtomicU32::new(0), name, level: AtomicU32::new(UNSET) }
        }
    }

    /// The length of the name, if the module has this name or is inside one that has.
    fn covers(&self, module: &str) -> Option<usize> {
        let length = usize::try_from(self.length.load(Relaxed)).ok()?;
        let (outer, inner) = module.as_bytes().split_at_checked(length)?;
        let name: [[u8; 8]; NAME] = array::from_fn(|word| match self.name.get(word) {
            Some(word) => word.load(Relaxed).to_ne_bytes(),
            None => [0; 8],
        });
        let same = length != 0 && name.as_flattened().starts_with(outer);
        (same && (inner.is_empty() || inner.starts_with(b"::"))).then_some(length)
    }

    /// Becomes the rule of a module, whose name is short enough.
    fn take(&self, module: &str, length: u32) {
        let mut bytes = [[0; 8]; NAME];
        for (to, from) in bytes.as_flattened_mut().iter_mut().zip(module.bytes()) {
            *to = from;
        }
        for (word, bytes) in self.name.iter().zip(bytes) {
            word.store(u64::from_ne_bytes(bytes), Relaxed);
        }
        self.length.store(length, Relaxed);
    }
}

impl Levels {
    const_fn! {
        /// All modules have [`Level::Info`], and nobody listens.
        #[must_use]
        pub fn new() -> Self {
            #[cfg(not(loom))]
            let rules = [const { Rule::new() }; MODULES];
            #[cfg(loom)]
            let rules = array::from_fn(|_| Rule::new());
            Self {
                word: AtomicU64::new(GENERATION),
                changing: AtomicU32::new(0),
                default: AtomicU32::new(Level::Info as u32),
                rules,
            }
        }
    }

    /// Whether some module has this level.
    #[inline]
    pub fn reach(&self, level: Level) -> bool {
        self.word.load(Relaxed) & LEVEL >= level as u64
    }

    /// Whether this module has this level. `seen` is the caller's, for what was found the last time; zero at first.
    ///
    /// Acquire: the rules are as new as the generation.
    pub fn allow(&self, level: Level, module: &str, seen: &PlainU64) -> bool {
        let generation = self.word.load(Acquire) / GENERATION;
        let mut found = seen.load(Relaxed);
        if found / GENERATION != generation {
            found = generation.wrapping_mul(GENERATION) | u64::from(Level::number(self.level_of(module)));
            seen.store(found, Relaxed);
        }
        found & LEVEL >= level as u64
    }

    /// The level of the rule with the longest name, of those that cover the module.
    pub fn level_of(&self, module: &str) -> Option<Level> {
        let mut level = self.default.load(Relaxed);
        let mut longest = 0;
        for rule in &self.rules {
            let own = rule.level.load(Relaxed);
            if let Some(length) = rule.covers(module)
                && own != UNSET
                && length > longest
            {
                (level, longest) = (own, length);
            }
        }
        Level::of_number(level)
    }

    /// Sets the level of modules without a rule. To be [published](Self::publish).
    pub fn set_default(&self, level: Option<Level>) -> Result<(), LevelError<'static>> {
        self.exclusively(|| {
            self.default.store(Level::number(level), Relaxed);
            Ok(())
        })
    }

    /// Sets the level of a module. To be [published](Self::publish).
    pub fn set<'a>(&self, module: &'a str, level: Option<Level>) -> Result<(), LevelError<'a>> {
        let length = u32::try_from(module.len()).ok().filter(|_| (1..=NAME_BYTES).contains(&module.len()));
        let length = length.ok_or(LevelError::Module(module))?;
        self.exclusively(|| {
            let free = || self.rules.iter().find(|rule| rule.length.load(Relaxed) == 0);
            let rule = if let Some(rule) = self.rule_of(module) {
                rule
            } else {
                let rule = free().ok_or(LevelError::Full(module))?;
                rule.take(module, length);
                rule
            };
            rule.level.store(Level::number(level), Relaxed);
            Ok(())
        })
    }

    /// Lets a module have no level of its own. To be [published](Self::publish).
    pub fn clear(&self, module: &str) -> Result<(), LevelError<'static>> {
        self.exclusively(|| {
            if let Some(rule) = self.rule_of(module) {
                rule.level.store(UNSET, Relaxed);
            }
            Ok(())
        })
    }

    fn rule_of(&self, module: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.covers(module) == Some(module.len()))
    }

    /// One at a time changes the rules; nobody waits, since the other may be the code that was interrupted.
    ///
    /// Acquire and Release: each sees the names that the ones before have taken. The attempts of others come between.
    fn exclusively<'a>(&self, f: impl FnOnce() -> Result<(), LevelError<'a>>) -> Result<(), LevelError<'a>> {
        if self.changing.swap(1, Acquire) != 0 {
            return Err(LevelError::Busy);
        }
        let result = f();
        self.changing.swap(0, Release);
        result
    }

    /// Begins a generation, in which everybody looks at the rules again.
    ///
    /// Release, for the rules. Acquire: of two who publish, the later one reads what both have changed.
    pub fn publish(&self, somebody_listens: impl Fn() -> bool) {
        let mut seen = self.word.load(Acquire);
        loop {
            let highest = if somebody_listens() { self.highest() } else { 0 };
            let next = (seen / GENERATION).wrapping_add(1).wrapping_mul(GENERATION) | u64::from(highest);
            match self.word.compare_exchange_weak(seen, next, Release, Acquire) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    fn highest(&self) -> u32 {
        let own = self.rules.iter().map(|rule| rule.level.load(Relaxed)).filter(|level| *level != UNSET);
        own.chain([self.default.load(Relaxed)]).max().unwrap_or(0)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{format, string::String, vec::Vec};

    use super::*;

    /// As many modules as there is room for, each with its own level; one more is refused, and nothing is lost by it.
    #[test]
    fn too_many_modules() {
        let levels = Levels::new();
        let name = |n| format!("module{n:02}::{}", "x".repeat(NAME_BYTES.saturating_sub(10)));
        let names: Vec<String> = (0..MODULES).map(name).collect();
        for name in &names {
            assert_eq!(name.len(), NAME_BYTES);
            assert_eq!(levels.set(name, Some(Level::Trace)), Ok(()));
        }
        let error = levels.set("another", Some(Level::Warn));
        assert_eq!(error, Err(LevelError::Full("another")));
        assert_eq!(
            error.map_err(|error| format!("{error}")),
            Err(String::from(
                "16 modules have had levels of their own, so that `another` cannot; set an outer module's"
            ))
        );
        for name in &names {
            assert_eq!(levels.set(name, Some(Level::Debug)), Ok(()), "a name that is known has its place");
            assert_eq!(levels.level_of(name), Some(Level::Debug));
            assert_eq!(levels.level_of(name.trim_end_matches('x')), Some(Level::Info));
        }
        assert_eq!(levels.level_of("another"), Some(Level::Info));
    }

    /// Whoever interrupts a change of the levels is told so, and does not wait for what it has interrupted.
    #[test]
    fn a_change_within_a_change() {
        let levels = Levels::new();
        let inner = levels.exclusively(|| {
            assert_eq!(levels.set("a", None), Err(LevelError::Busy));
            levels.set_default(None)
        });
        assert_eq!(inner, Err(LevelError::Busy));
        assert_eq!(format!("{}", LevelError::Busy), "somebody else is setting a level; try again");
        assert_eq!(levels.set("a", None), Ok(()));
        assert_eq!((levels.level_of("a::b"), levels.level_of("b")), (None, Some(Level::Info)));
    }
}
