//! A run as a picture that needs no viewer: who waited for what, and what the other half did meanwhile.
//!
//! A track for each backend, with its states, and one for each of the guest's tasks: dark where it is polled,
//! coloured by what it waits for. What the toolstack does goes through all of them, and is told below.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use serde_json::Value;

/// A line of the timeline.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) at: Duration,
    pub(crate) who: String,
    pub(crate) what: String,
}

/// In units of the picture.
const WIDTH: f64 = 1200.0;
const LEFT: f64 = 130.0;
const TOP: f64 = 24.0;
const TRACK: f64 = 22.0;
const BAR: f64 = 14.0;
const TEXT: f64 = 14.0;

/// What a task may wait for: a part of the place where it does, a colour, and what to say.
const WAITS: [(&str, &str, &str); 4] = [
    ("store/client.rs", "#7fb3e6", "an answer of xenstored"),
    ("store/watch.rs", "#9bd3a5", "a watch, or its ring"),
    ("console", "#d9b3e6", "the console"),
    ("", "#dddddd", "something else"),
];
const READY: &str = "#f5a742";
const POLL: &str = "#222222";

/// A state of a backend's, and its colour.
const STATES: [(&str, &str); 6] = [
    ("Initialising", "#eeeeee"),
    ("InitWait", "#fff0b3"),
    ("Initialised", "#e0e6b3"),
    ("Connected", "#9bd3a5"),
    ("Closing", "#f2b8a0"),
    ("Closed", "#cccccc"),
];

/// The picture of a run, as SVG: of its trace, as [`Perfetto`](kexec::trace::Perfetto) has it, and of what was said.
pub(crate) fn draw(trace: &str, lines: &[Line]) -> String {
    let trace: Value = serde_json::from_str(trace).expect("it is what kexec has written");
    let events: Vec<Slice> = trace["traceEvents"].as_array().into_iter().flatten().map(Slice::of).collect();
    let names = tasks(&trace);
    let end = events.iter().map(|slice| slice.end).fold(1.0, f64::max);
    let scale = Scale { end };
    let backends = backends(lines);
    let said = deeds(lines);
    let tracks = backends.len() + names.len();
    let bottom = TOP + TRACK * count(tracks);
    let height = bottom + TEXT * (count(said.len()) + 4.0);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let mut y = TOP;
    for (backend, states) in &backends {
        label(&mut svg, y, &format!("backend {backend}"));
        for (index, (at, state)) in states.iter().enumerate() {
            let until = states.get(index + 1).map_or(end, |(next, _)| *next);
            let colour = STATES.iter().find(|(name, _)| name == state).map_or("none", |(_, colour)| colour);
            bar(&mut svg, y, colour, &[(scale.x(*at), scale.x(until))]);
        }
        y += TRACK;
    }
    for (track, name) in &names {
        label(&mut svg, y, name);
        let of = |kind: &dyn Fn(&str) -> bool| -> Vec<(f64, f64)> {
            let own = events.iter().filter(|slice| slice.track == *track && kind(&slice.name));
            own.map(|slice| (scale.x(slice.start), scale.x(slice.end))).collect()
        };
        let is_wait = |name: &str| !matches!(name, "poll" | "ready" | "wake" | "run" | "");
        for (index, (place, colour, _)) in WAITS.iter().enumerate() {
            let earlier = |name: &str| WAITS[..index].iter().any(|(other, ..)| name.contains(other));
            bar(&mut svg, y, colour, &of(&|name| is_wait(name) && name.contains(place) && !earlier(name)));
        }
        bar(&mut svg, y, READY, &of(&|name| name == "ready"));
        let polls = of(&|name| name == "poll");
        bar(
            &mut svg,
            y,
            POLL,
            &polls.iter().map(|(from, to)| (*from, to.max(from + 0.4))).collect::<Vec<_>>(),
        );
        y += TRACK;
    }
    for (index, (at, what)) in said.iter().enumerate() {
        let (x, number) = (scale.x(at.as_secs_f64() * 1e6), index + 1);
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#c33\" stroke-width=\".7\" stroke-dasharray=\"3 2\"/>\
             <text x=\"{x:.1}\" y=\"{}\" fill=\"#c33\" text-anchor=\"middle\">{number}</text>",
            TOP - if index % 2 == 0 { 3.0 } else { 13.0 }
        );
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{:.0}\">{number}: {:.3} ms, {}</text>",
            bottom + TEXT * (count(index) + 3.5),
            at.as_secs_f64() * 1e3,
            escaped(what)
        );
    }
    legend(&mut svg, bottom + TEXT * 1.5);
    svg.push_str("</svg>\n");
    svg
}

/// From microseconds to places in the picture.
struct Scale {
    end: f64,
}

impl Scale {
    fn x(&self, at: f64) -> f64 {
        LEFT + at / self.end * (WIDTH - LEFT - 10.0)
    }
}

/// A slice of a track.
struct Slice {
    track: u64,
    name: String,
    start: f64,
    end: f64,
}

impl Slice {
    fn of(event: &Value) -> Self {
        let start = event["ts"].as_f64().unwrap_or(0.0);
        // Marks have no length, and no place here.
        let name = if event["ph"] == "X" { event["name"].as_str().unwrap_or_default() } else { "" };
        Self {
            track: event["tid"].as_u64().unwrap_or(0),
            name: name.to_owned(),
            start,
            end: start + event["dur"].as_f64().unwrap_or(0.0),
        }
    }
}

/// The tracks of tasks, with the last part of the name of each.
fn tasks(trace: &Value) -> BTreeMap<u64, String> {
    let named = trace["traceEvents"].as_array().into_iter().flatten();
    let named = named.filter(|event| event["name"] == "thread_name");
    let of = |event: &Value| {
        let name = event["args"]["name"].as_str()?.rsplit("::").next()?;
        Some((
            event["tid"].as_u64()?,
            name.trim_end_matches(|last: char| "#0123456789 ".contains(last)).to_owned(),
        ))
    };
    named.filter_map(of).filter(|(_, name)| name != "runs").collect()
}

/// What the toolstack has done after the beginning: all of a moment together.
fn deeds(lines: &[Line]) -> Vec<(Duration, String)> {
    let mut deeds = Vec::<(Duration, String)>::new();
    for line in lines.iter().filter(|line| line.who == "toolstack" && !line.at.is_zero()) {
        match deeds.last_mut() {
            Some((at, what)) if *at == line.at => {
                what.push_str("; ");
                what.push_str(&line.what);
            }
            _ => deeds.push((line.at, line.what.clone())),
        }
    }
    deeds
}

/// The states of each backend, and since when.
fn backends(lines: &[Line]) -> BTreeMap<String, Vec<(f64, String)>> {
    let mut backends = BTreeMap::<String, Vec<(f64, String)>>::new();
    for line in lines {
        // `/local/domain/0/backend/echo/1/0`: of whichever domain the guest is.
        if let Some((_, path)) = line.who.split_once("/backend/")
            && let Some(state) = line.what.strip_prefix("is ")
            && let [class, _, index] = path.split('/').collect::<Vec<_>>()[..]
        {
            let states = backends.entry(format!("{class}/{index}")).or_default();
            states.push((line.at.as_secs_f64() * 1e6, state.to_owned()));
        }
    }
    backends
}

fn label(svg: &mut String, y: f64, text: &str) {
    let _ = writeln!(svg, "<text x=\"4\" y=\"{:.0}\">{}</text>", y + BAR - 3.0, escaped(text));
}

/// Stretches of a track in one colour.
fn bar(svg: &mut String, y: f64, colour: &str, stretches: &[(f64, f64)]) {
    if stretches.is_empty() {
        return;
    }
    let path = stretches.iter().fold(String::new(), |mut path, (from, to)| {
        let _ = write!(path, "M{from:.1} {y:.0}h{:.1}", to - from);
        path
    });
    let _ = writeln!(
        svg,
        "<path d=\"{path}\" stroke=\"{colour}\" stroke-width=\"{BAR}\" transform=\"translate(0 {})\"/>",
        BAR / 2.0
    );
}

/// What the colours mean.
fn legend(svg: &mut String, y: f64) {
    let tasks = WAITS.iter().map(|(_, colour, what)| (*colour, format!("waits for {what}")));
    let tasks = tasks.chain([(READY, "is ready".to_owned()), (POLL, "is polled".to_owned())]);
    let states = STATES.iter().map(|(state, colour)| (*colour, (*state).to_owned()));
    let mut x = LEFT;
    for (colour, what) in tasks.chain(states) {
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.0}\" y=\"{:.0}\" width=\"9\" height=\"9\" fill=\"{colour}\"/><text x=\"{:.0}\" y=\"{y:.0}\" \
             font-size=\"9\">{what}</text>",
            y - 8.0,
            x + 12.0
        );
        x += 18.0 + 4.7 * count(what.len());
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each task has its track, each backend its states, each deed of the toolstack's its line; and what is no XML is
    /// escaped.
    #[test]
    fn everything_is_drawn() {
        let trace = r#"{"traceEvents":[
            {"ph":"M","name":"thread_name","tid":1,"args":{"name":"runs"}},
            {"ph":"M","name":"thread_name","tid":2,"args":{"name":"a::guest::live #1"}},
            {"ph":"X","name":"poll","tid":2,"ts":0.0,"dur":10.0},
            {"ph":"X","name":"event x/store/client.rs:1","tid":2,"ts":10.0,"dur":90.0},
            {"ph":"i","name":"spawned","tid":2,"ts":5.0}]}"#;
        let line = |at, who: &str, what: &str| Line {
            at: Duration::from_micros(at),
            who: who.to_owned(),
            what: what.to_owned(),
        };
        let svg = draw(
            trace,
            &[
                line(0, "toolstack", "creates"),
                line(50, "/local/domain/0/backend/echo/1/7", "is Connected"),
                line(60, "toolstack", "asks"),
                line(60, "toolstack", "<twice>"),
            ],
        );
        assert!(svg.contains(">live</text>") && !svg.contains("runs"), "{svg}");
        assert!(svg.contains("backend echo/7"), "{svg}");
        assert!(svg.contains("0.060 ms, asks; &lt;twice&gt;") && !svg.contains("creates"), "{svg}");
        // From the middle to the end, and over the last nine tenths.
        assert!(svg.contains("M660.0 24h530.0") && svg.contains("M236.0 46h954.0"), "{svg}");
    }
}
