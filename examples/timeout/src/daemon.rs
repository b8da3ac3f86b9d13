//! The other end: a daemon with moods, and the wire between.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use kexec::{irql::Dispatch, sync::AutoEvent, time::sleep};

/// How the daemon is today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Answers after so long.
    Answers(Duration),
    /// Reads the questions, and keeps them to itself; in another mood it answers them all.
    Silent,
}

/// What both ends see.
pub(crate) struct Wire {
    lines: Mutex<Lines>,
    to_daemon: AutoEvent,
    to_driver: AutoEvent,
}

struct Lines {
    mood: Mood,
    questions: VecDeque<(u32, String)>,
    answers: VecDeque<(u32, String)>,
}

impl Wire {
    pub(crate) fn new(mood: Mood) -> Self {
        let lines = Lines { mood, questions: VecDeque::new(), answers: VecDeque::new() };
        Self { lines: Mutex::new(lines), to_daemon: AutoEvent::new(false), to_driver: AutoEvent::new(false) }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().expect("nobody panics with it")
    }

    /// Changes the daemon's mood.
    pub(crate) fn set_mood(&self, mood: Mood) {
        self.lines().mood = mood;
        self.to_daemon.set();
    }

    pub(crate) fn ask(&self, number: u32, path: &str) {
        self.lines().questions.push_back((number, path.into()));
        self.to_daemon.set();
    }

    /// The next answer. A wait that is dropped loses none.
    pub(crate) async fn answer(&self) -> (u32, String) {
        loop {
            let answer = self.lines().answers.pop_front();
            match answer {
                Some(answer) => return answer,
                None => self.to_driver.wait().await,
            }
        }
    }

    /// The next question, and how long the daemon thinks about it.
    async fn question(&self) -> (u32, String, Duration) {
        loop {
            if let Some(question) = self.next_question() {
                return question;
            }
            self.to_daemon.wait().await;
        }
    }

    fn next_question(&self) -> Option<(u32, String, Duration)> {
        let mut lines = self.lines();
        let Mood::Answers(after) = lines.mood else { return None };
        lines.questions.pop_front().map(|(number, path)| (number, path, after))
    }
}

/// What the store has there: enough to see that an answer is that of its question.
pub(crate) fn value_of(path: &str) -> String {
    format!("the value of {path}")
}

/// Answers one question after the other.
pub(crate) async fn serve(_: &mut Dispatch, wire: &'static Wire) {
    loop {
        let (number, path, after) = wire.question().await;
        sleep(after).await;
        wire.lines().answers.push_back((number, value_of(&path)));
        wire.to_driver.set();
    }
}
