//! What a bench found: figures, a table of ratios, a JSON file, and gates that may fail.

use std::path::Path;
use std::{fmt, fs};

use crate::Result;

/// One measured value.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Whose it is: the name of a crate.
    pub peer: &'static str,
    /// What was done.
    pub case: &'static str,
    /// What was counted.
    pub metric: &'static str,
    /// How much, for each operation of the case.
    pub value: f64,
}

/// All figures of one run.
#[derive(Debug, Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// Adds a figure.
    pub fn push(&mut self, figure: Figure) {
        self.0.push(figure);
    }

    /// Adds figures.
    pub fn extend(&mut self, figures: impl Iterator<Item = Figure>) {
        self.0.extend(figures);
    }

    /// The value of a figure.
    ///
    /// # Errors
    ///
    /// If it was not measured.
    pub fn get(&self, peer: &str, case: &str, metric: &str) -> Result<f64> {
        self.find(peer, case, metric)
            .ok_or_else(|| format!("{peer} has no figure `{metric}` for {case}").into())
    }

    /// Whether anything was measured of a peer in a case.
    #[must_use]
    pub fn has(&self, peer: &str, case: &str) -> bool {
        self.0.iter().any(|figure| (figure.peer, figure.case) == (peer, case))
    }

    fn find(&self, peer: &str, case: &str, metric: &str) -> Option<f64> {
        self.0
            .iter()
            .find(|figure| (figure.peer, figure.case, figure.metric) == (peer, case, metric))
            .map(|figure| figure.value)
    }

    /// Writes the figures to `path`: a list of objects with `peer`, `case`, `metric` and `value`.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        fs::write(path, self.to_json())
            .map_err(|error| format!("cannot write {}: {error}", path.display()).into())
    }

    fn to_json(&self) -> String {
        let objects: Vec<String> = self.0.iter().map(Figure::to_json).collect();
        format!("[\n{}\n]\n", objects.join(",\n"))
    }

    /// The table: a column for each of `peers`, in each cell the figures of the row, and under them
    /// their ratios to the first peer's. A peer that cannot do a case has a dash.
    ///
    /// # Errors
    ///
    /// If a figure was not measured, of a case of which others were.
    pub fn table(&self, peers: &[&str], rows: impl Iterator<Item = Row>) -> Result<String> {
        let mut table = line("", peers.iter().map(ToString::to_string));
        for row in rows {
            let cells = peers.iter().map(|peer| row.cell(self, peer)).collect::<Result<Vec<_>>>()?;
            let (first, others) = cells.split_first().ok_or("a table of no peers")?;
            let shown = |cell: &Option<Vec<f64>>| match cell {
                Some(cell) => joined(" / ", cell.iter().copied().map(short)),
                None => "-".to_owned(),
            };
            table += &line(row.label, cells.iter().map(shown));
            let ratios = others.iter().map(|cell| match (cell, first) {
                (Some(cell), Some(first)) => {
                    joined(" ", cell.iter().zip(first).map(|(value, base)| ratio(*value, *base)))
                }
                _ => String::new(),
            });
            table += &line("", std::iter::once(String::new()).chain(ratios));
        }
        Ok(table)
    }
}

impl Figure {
    fn to_json(&self) -> String {
        let Self { peer, case, metric, value } = self;
        // The names are this package's own constants: there is nothing in them to escape.
        let value = (value * 1000.0).round() / 1000.0;
        format!(r#"  {{"peer": "{peer}", "case": "{case}", "metric": "{metric}", "value": {value}}}"#)
    }
}

/// A row of the table: some metrics of one case.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What stands at the left.
    pub label: &'static str,
    /// The case that the figures belong to.
    pub case: &'static str,
    /// The metrics in a cell, in this order.
    pub metrics: &'static [&'static str],
}

impl Row {
    fn cell(&self, figures: &Figures, peer: &str) -> Result<Option<Vec<f64>>> {
        let cell = || self.metrics.iter().map(|metric| figures.get(peer, self.case, metric)).collect();
        figures.has(peer, self.case).then(cell).transpose()
    }
}

/// One line of a table that fits into 120 columns with five peers.
fn line(label: &str, cells: impl Iterator<Item = String>) -> String {
    let cells = joined("", cells.map(|cell| format!("{cell:21}")));
    format!("{}\n", format!("{label:15}{cells}").trim_end())
}

fn joined(separator: &str, texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join(separator)
}

/// A value with as many digits as matter.
fn short(value: f64) -> String {
    let text = if value < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") };
    match text.trim_end_matches('0').trim_end_matches('.') {
        _ if value >= 100.0 => format!("{value:.0}"),
        trimmed => trimmed.to_owned(),
    }
}

/// How many times the base a value is, where that has a meaning.
fn ratio(value: f64, base: f64) -> String {
    if base > 0.0 { format!("x{:.2}", value / base) } else { "-".to_owned() }
}

/// How far two figures may differ that are the same: set-up does not repeat to the last instruction, and is shared by a
/// thousand operations.
const SET_UP: f64 = 0.25;

/// A claim that a bench checks.
#[derive(Debug)]
pub struct Gate {
    claim: String,
    holds: bool,
    must: bool,
}

impl Gate {
    /// Claims that a figure of a peer is not above `limit`.
    ///
    /// # Errors
    ///
    /// If it was not measured.
    pub fn at_most(figures: &Figures, peer: &str, case: &str, metric: &str, limit: f64) -> Result<Self> {
        let value = figures.get(peer, case, metric)?;
        let claim = format!("{case:15} {peer}: {metric} {} <= {}", short(value), short(limit));
        Ok(Self { claim, holds: value <= limit, must: true })
    }

    /// Claims that a figure of a peer is `wanted`.
    ///
    /// # Errors
    ///
    /// If it was not measured.
    pub fn exactly(figures: &Figures, peer: &str, case: &str, metric: &str, wanted: f64) -> Result<Self> {
        let value = figures.get(peer, case, metric)?;
        let claim = format!("{case:15} {peer}: {metric} {} == {}", short(value), short(wanted));
        Ok(Self { claim, holds: (value - wanted).abs() < 0.001, must: true })
    }

    /// Claims that a figure of `peer` is below that of `other`.
    ///
    /// # Errors
    ///
    /// If one of them was not measured.
    pub fn below(figures: &Figures, [peer, other]: [&str; 2], case: &str, metric: &str) -> Result<Self> {
        let [value, limit] = [figures.get(peer, case, metric)?, figures.get(other, case, metric)?];
        let claim = format!("{case:15} {peer}: {metric} {} < {} of {other}", short(value), short(limit));
        Ok(Self { claim, holds: value < limit, must: true })
    }

    /// Claims that a figure is not more than `more` above another one of the same metric.
    ///
    /// # Errors
    ///
    /// If one of them was not measured.
    pub fn costs(
        figures: &Figures,
        [(peer, case), (base_peer, base_case)]: [(&str, &str); 2],
        metric: &str,
        more: f64,
    ) -> Result<Self> {
        let [value, base] = [figures.get(peer, case, metric)?, figures.get(base_peer, base_case, metric)?];
        let difference = value - base;
        let than = if case == base_case { base_peer } else { base_case };
        let claim =
            format!("{case:15} {peer}: {metric} {} more than {than} <= {}", short(difference), short(more));
        Ok(Self { claim, holds: difference < more + SET_UP, must: true })
    }

    /// The same claim as a wish: printed, but not counted against the run.
    #[must_use]
    pub fn as_wish(self) -> Self {
        Self { must: false, ..self }
    }

    /// Whether the run may not pass.
    #[must_use]
    pub fn fails(&self) -> bool {
        self.must && !self.holds
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.must, self.holds) {
            (true, true) => "pass",
            (true, false) => "FAIL",
            (false, true) => "wish, met",
            (false, false) => "wish, not met",
        };
        write!(f, "{verdict:14} {}", self.claim)
    }
}

#[cfg(test)]
mod tests {
    use super::{Figure, Figures, Gate, Row, short};

    const KEXEC: (&str, &str) = ("kexec", "yield");
    const TOKIO: (&str, &str) = ("tokio", "yield");

    fn figures() -> Figures {
        let mut figures = Figures::default();
        for (peer, metric, value) in [
            ("kexec", "instructions", 150.0),
            ("kexec", "heap", 0.0),
            ("tokio", "instructions", 300.0),
            ("tokio", "heap", 1.0),
        ] {
            figures.push(Figure { peer, case: "yield", metric, value });
        }
        figures
    }

    #[test]
    fn the_table_has_figures_and_ratios() {
        let row = Row { label: "yield", case: "yield", metrics: &["instructions", "heap"] };
        let table = figures().table(&["kexec", "tokio"], [row].into_iter()).unwrap();
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["kexec", "tokio"]);
        assert_eq!(lines[1], ["yield", "150", "/", "0", "300", "/", "1"]);
        assert_eq!(lines[2], ["x2.00", "-"]);
    }

    /// What a peer cannot do is not an error; what was not measured of what it can is one.
    #[test]
    fn a_case_that_a_peer_cannot_do_is_a_dash() {
        let row = |metrics| Row { label: "yield", case: "yield", metrics };
        let table = |row| figures().table(&["kexec", "embassy", "tokio"], [row].into_iter());
        let shown = table(row(&["instructions"])).unwrap();
        let cells: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(cells, ["yield", "150", "-", "300"]);
        assert!(table(row(&["ns"])).is_err());
    }

    #[test]
    fn the_file_is_a_list_of_objects() {
        let mut figures = Figures::default();
        figures.push(Figure { peer: "kexec", case: "yield", metric: "ns", value: 26.123_456 });
        let json = figures.to_json();
        assert_eq!(
            json,
            "[\n  {\"peer\": \"kexec\", \"case\": \"yield\", \"metric\": \"ns\", \"value\": 26.123}\n]\n"
        );
    }

    #[test]
    fn a_gate_fails_only_when_it_must_hold() {
        let figures = figures();
        let gate = |limit| Gate::at_most(&figures, "kexec", "yield", "instructions", limit).unwrap();
        assert!(!gate(150.0).fails());
        assert!(gate(149.0).fails());
        assert!(!gate(149.0).as_wish().fails());
        assert!(!Gate::below(&figures, ["kexec", "tokio"], "yield", "instructions").unwrap().fails());
        assert!(Gate::exactly(&figures, "tokio", "yield", "heap", 0.0).unwrap().fails());
        let costs = |more| Gate::costs(&figures, [TOKIO, KEXEC], "instructions", more).unwrap();
        assert!(!costs(150.0).fails());
        assert!(costs(149.0).fails());
        assert!(Gate::exactly(&figures, "tokio", "yield", "locked", 0.0).is_err(), "not measured");
    }

    #[test]
    fn values_show_the_digits_that_matter() {
        assert_eq!(
            [0.0, 0.032, 5.0, 5.25, 12.34, 157.6].map(short),
            ["0", "0.03", "5", "5.25", "12.3", "158"]
        );
    }
}
