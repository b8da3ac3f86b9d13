//! The suite on the simulated xenstored, which is the first store to pass it.
#![forbid(unsafe_code)]

mod world;

use std::collections::BTreeSet;

use kexec::testing::{Scenario, Sim};
use xen_abi::io::xs_wire::{
    XENSTORE_SERVER_FEATURE_ERROR, XENSTORE_SERVER_FEATURE_RECONNECTION, XENSTORE_SERVER_FEATURE_WATCHDEPTH,
    XsError,
};
use xen_harness::{Player, WithFaults};
use xen_sim::{
    Dice, Machine,
    xenstored::{Config, Fault, Features, Quota, Quotas},
};
use xenstore_suite::{Profile, store, wire};

use self::world::{Case, Ran, World, cases, ran};

/// A daemon as it is started if nobody says anything: today's quotas, and what Xen 4.17 offers.
static PLAIN: Profile =
    Profile { has_depth: false, has_features: false, has_quotas: false, ..Profile::XENSTORED };

/// A daemon with other quotas: some larger, so that there are longer lists and values, and some smaller.
static OTHER: Profile = Profile {
    path: 499,
    node: None,
    watches: xenstore_suite::Quota { most: 39, refusal: "ENOSPC" },
    transactions: xenstore_suite::Quota { most: 4, refusal: "ENOSPC" },
    permissions: Some(xenstore_suite::Quota { most: 6, refusal: "ENOSPC" }),
    ..PLAIN
};

/// The daemons that are simulated, and what to expect of each.
fn daemons() -> [(Config, &'static Profile); 3] {
    let offered = XENSTORE_SERVER_FEATURE_RECONNECTION
        | XENSTORE_SERVER_FEATURE_ERROR
        | XENSTORE_SERVER_FEATURE_WATCHDEPTH;
    let features = Features { offered, feature_requests: true, quota_requests: true };
    let quotas = Quotas::default()
        .with(Quota::PathLength, 500)
        .with(Quota::NodeSize, 0)
        .with(Quota::Watches, 40)
        .with(Quota::Transactions, 5)
        .with(Quota::Permissions, 7);
    [
        (Config::default(), &PLAIN),
        (Config { features, ..Config::default() }, &Profile::XENSTORED),
        (Config { quotas, ..Config::default() }, &OTHER),
    ]
}

/// All cases pass, and nothing of theirs is left.
fn all_pass(player: Player, config: &Config, profile: &'static Profile, cases: Vec<Case>, which: &str) {
    let Ran { differences, left, .. } = ran(player, config, profile, cases, None);
    assert_eq!((differences, left), (vec![], vec![]), "{which}, {}", profile.name);
}

/// A rule that is broken is seen, whatever was before it: each case has a guest of its own.
#[test]
fn each_case_alone() {
    let daemons = daemons();
    for (config, profile) in &daemons {
        for case in cases() {
            all_pass(Player::new(1), config, profile, vec![case], &case.to_string());
        }
    }
    println!("{} cases under {} profiles", cases().count(), daemons.len());
}

/// What one case leaves behind, another trips over: in one guest, in any order, all of them pass.
#[test]
fn all_in_one_guest_in_any_order() {
    for seed in 0..3 {
        let mut dice = Dice::new(seed);
        let mut ahead: Vec<_> = cases().collect();
        let mut shuffled = Vec::new();
        while !ahead.is_empty() {
            let next = usize::try_from(dice.below(ahead.len() as u64)).expect("an index");
            shuffled.push(ahead.swap_remove(next));
        }
        for (config, profile) in daemons() {
            all_pass(Player::new(seed), &config, profile, shuffled.clone(), &format!("seed {seed}"));
        }
    }
}

/// Doorbells that are late, come twice, or are answered in the middle of a wake change nothing of what a store does.
#[test]
fn all_under_wild_plans() {
    for seed in 0..3 {
        for (config, profile) in daemons() {
            all_pass(Player::wild(seed), &config, profile, cases().collect(), &format!("seed {seed}"));
        }
    }
}

/// A store that dies, hangs, talks nonsense or goes away ends a case with a difference, and not with a guest that
/// hangs: on a real Xen, nobody else would say that anything is wrong. And one that is only slow is no different.
#[test]
fn a_case_ends_whatever_happens() {
    let short = |case: &Case| {
        ["store::watches::of_a_parent_that_goes", "wire::watches::are_in_no_transaction"]
            .contains(&case.to_string().as_str())
    };
    let world = move |sim: &mut Sim| {
        let machine = Machine::new(sim.seed());
        let (world, life) = World::new(sim, machine, &PLAIN, cases().filter(short).collect());
        sim.must_end("the suite", life);
        world
    };
    Scenario::new("suite ends", world)
        .seeds(0..0)
        .machine_faults()
        .check(|world, case| {
            let is_nothing = ["cancelled suspend", "repeat event", "delay event", "suspend", "wake"];
            if case.fault().is_none_or(|fault| is_nothing.contains(&fault.as_str())) {
                assert_eq!((world.differences(), world.left()), (vec![], vec![]));
            }
        })
        .boundaries(200)
        .run();
}

/// What the client asks for by itself, with answers that no case sees.
fn is_the_clients_own(case: Case, request: &str) -> bool {
    let own =
        ["XS_RESET_WATCHES", "XS_UNWATCH", "XS_TRANSACTION_END \"F\"", "platform-feature-xs_reset_watches"];
    matches!(case, Case::Store(_)) && own.iter().any(|own| request.contains(own))
}

/// A case that passes whatever the store does checks nothing. So each request of each case fails once, which must be
/// noticed; and once the store says that it has done what it has not.
#[test]
fn no_case_passes_whatever_happens() {
    let (failing, lying) = (Fault::Refuse(XsError::EIO), Fault::Pretend(b"OK\0".to_vec()));
    let (mut requests, mut lies) = (0, 0);
    for case in cases() {
        let run = |number, fault| {
            ran(Player::new(1), &Config::default(), &PLAIN, vec![case], Some((number, fault)))
        };
        let whole = ran(Player::new(1), &Config::default(), &PLAIN, vec![case], None).requests;
        let mut noticed = 0;
        for (number, request) in whole.iter().enumerate() {
            let failed = run(number, &failing);
            let is_noticed = !failed.differences.is_empty() || is_the_clients_own(case, request);
            assert!(is_noticed, "{case} does not notice that request {number} has failed: {request}");
            noticed += usize::from(!run(number, &lying).differences.is_empty());
        }
        assert!(noticed > 0, "{case} does not notice any lie");
        requests += whole.len();
        lies += noticed;
    }
    println!("{requests} requests; {lies} of as many lies were noticed");
    // Not each can be: who is told that what is there already was written again sees no difference.
    assert!(requests >= 2300 && lies >= 1900, "{lies} lies of {requests} were noticed");
}

/// A report names a case, and whoever reads it looks for the rule.
#[test]
fn each_case_has_a_name_and_a_rule() {
    let names: BTreeSet<_> = cases().map(|case| case.to_string()).collect();
    assert_eq!(names.len(), cases().count());
    let stores = store::CASES.iter().map(|case| (case.says, case.document, case.section));
    let wires = wire::CASES.iter().map(|case| (case.says, case.document, case.section));
    for (says, document, section) in stores.chain(wires) {
        assert!(says.trim().ends_with('.') && !section.is_empty(), "{says}");
        assert!(document.starts_with("docs/misc/") || document.starts_with("tools/"), "{document}");
    }
}
