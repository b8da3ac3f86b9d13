//! Lines in the logs of the host.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use xen_sim::{Guest, GuestConfig, Machine};
use xenbus::unplug::{LONGEST_LINE, PortLog};

/// What both logs have when these texts were written to each, a line each, and whether they were whole.
fn logged(texts: &[&str]) -> (Vec<bool>, Vec<String>) {
    let machine = Machine::new(1);
    let guest = machine.create(GuestConfig::default());
    let of_the_device_model = PortLog::of_the_device_model(&guest).expect("it has a platform device");
    let write = |log: &PortLog<'_, Guest>| -> Vec<bool> {
        texts.iter().map(|text| write!(log.line(), "{text}").is_ok()).collect()
    };
    let whole = write(&of_the_device_model);
    assert_eq!(write(&PortLog::of_xen(&guest)), whole);
    let lines = machine.toolstack().log(&guest);
    assert_eq!(machine.toolstack().xen_log(&guest), lines);
    (whole, lines)
}

/// Each text is a line, whatever is in it: what looks like the end of one is not, so that nobody's words can be taken
/// for another line.
#[test]
fn a_text_is_a_line() {
    let (whole, lines) = logged(&["one", "", "tab\tand\r\nline\u{7f}\0!"]);
    assert_eq!(whole, [true; 3]);
    assert_eq!(lines, ["one", "", "tab and  line  !"]);
}

/// A line is cut where it is too long, is a line all the same, and whoever writes it is told.
#[test]
fn a_line_is_bounded() {
    let (just, longer) = ("x".repeat(LONGEST_LINE), "y".repeat(LONGEST_LINE + 1));
    let (whole, lines) = logged(&[&just, &longer, "z"]);
    assert_eq!(whole, [true, false, true]);
    assert_eq!(lines, [just, longer[..LONGEST_LINE].to_owned(), "z".to_owned()]);
}

/// A line in pieces ends once, at its drop.
#[test]
fn a_line_in_pieces() {
    let machine = Machine::new(1);
    let guest = machine.create(GuestConfig::default());
    let mut line = PortLog::of_the_device_model(&guest).expect("it has a platform device").line();
    for word in ["a", "b", "c"] {
        line.write_str(word).expect("there is room");
        assert_eq!(machine.toolstack().log(&guest), [""; 0]);
    }
    drop(line);
    assert_eq!(machine.toolstack().log(&guest), ["abc"]);
}
