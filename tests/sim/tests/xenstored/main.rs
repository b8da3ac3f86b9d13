//! Xenstored, rule by rule. Each test begins with the rules that it is for.
#![forbid(unsafe_code)]

mod domains;
mod faults;
mod nodes;
mod permissions;
mod quotas;
mod requests;
mod ring;
mod transactions;
mod watches;
mod world;

use xen_sim::xenstored::RULES;

/// A rule that no test is for can be broken without anybody noticing.
#[test]
fn every_rule_has_a_test() {
    const TESTS: &[&str] = &[
        include_str!("domains.rs"),
        include_str!("faults.rs"),
        include_str!("nodes.rs"),
        include_str!("permissions.rs"),
        include_str!("quotas.rs"),
        include_str!("requests.rs"),
        include_str!("ring.rs"),
        include_str!("transactions.rs"),
        include_str!("watches.rs"),
    ];
    let tested: Vec<&str> = TESTS
        .iter()
        .flat_map(|source| source.lines())
        .filter_map(|line| line.strip_prefix("/// ")?.split_once(':'))
        .flat_map(|(rules, _)| rules.split(", ").map(|rule| rule.trim_matches('`')))
        .collect();
    let untested: Vec<&str> =
        RULES.iter().map(|rule| rule.name).filter(|name| !tested.contains(name)).collect();
    assert_eq!(untested, [""; 0]);
}
