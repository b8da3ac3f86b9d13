//! What holds in Xen whatever a guest does.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::{
    hypervisor::{
        DOM0, Hypervisor,
        event::port::{Binding, Ports},
    },
    machine::Machine,
};

impl Machine {
    /// Whether Xen's own books agree with each other: if they do not, the simulation is wrong, not the guest.
    ///
    /// # Errors
    ///
    /// What does not agree with what.
    pub fn check(&self) -> Result<(), String> {
        self.with(|world| {
            world.xen.check()?;
            world.store.check().map_err(|corrupt| corrupt.to_string())
        })
    }
}

impl Hypervisor {
    fn check(&self) -> Result<(), String> {
        for (number, domain) in &self.domains {
            let of_domain = |problem| format!("domain {number}: {problem}");
            domain.ram.check().map_err(of_domain)?;
            if domain.grants.frames > domain.grants.most_frames {
                return Err(of_domain(format!("{} frames of grants", domain.grants.frames)));
            }
        }
        self.check_ports()?;
        self.check_mappings()
    }

    /// Two ports that are connected know of each other.
    fn check_ports(&self) -> Result<(), String> {
        for domain in self.domains.keys().copied().chain([DOM0]) {
            for (number, port) in self.ports(domain).into_iter().flat_map(Ports::open) {
                let Binding::Interdomain { remote, port: other } = port.binding else { continue };
                let there = self.ports(remote).and_then(|ports| ports.get(other)).map(|port| port.binding);
                if there != Some(Binding::Interdomain { remote: domain, port: number }) {
                    return Err(format!(
                        "port {number} of domain {domain} is {:?}, which is {there:?}",
                        port.binding
                    ));
                }
            }
        }
        Ok(())
    }

    /// An entry is in use exactly as often as somebody has it mapped.
    fn check_mappings(&self) -> Result<(), String> {
        let dom0 = self.mappings.iter().map(|track| (DOM0, track));
        let guests = self
            .domains
            .iter()
            .flat_map(|(number, domain)| domain.grants.tracks.iter().map(|track| (*number, track)));
        let mut mapped = BTreeMap::<_, [u8; 2]>::new();
        // What a domain had that is gone is still there for who has it mapped.
        let is_there = |granter| self.domains.contains_key(&granter);
        for (mapper, track) in dom0.chain(guests).filter(|(_, track)| is_there(track.granter)) {
            let times = mapped.entry((track.granter, track.reference, mapper)).or_default();
            times[usize::from(track.writable)] += 1;
        }
        let mut used = BTreeMap::new();
        for (number, domain) in &self.domains {
            used.extend(domain.grants.uses().map(|(reference, by, times)| ((*number, reference, by), times)));
        }
        if mapped == used { Ok(()) } else { Err(format!("in use {used:?}, mapped {mapped:?}")) }
    }
}
