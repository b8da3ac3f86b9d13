//! `HYPERVISOR_grant_table_op`
#![forbid(unsafe_code)]

use xen_abi::{
    Errno, Hypervisor,
    domid::DOMID_SELF,
    grant_table::{op::QuerySize, status::GrantError},
};

use super::command;

/// How many pages the table has, and may have. Callable at any level.
///
/// # Errors
///
/// What Xen answered.
pub fn query_size<H: Hypervisor>(hypervisor: &H) -> Result<(u32, u32), RefusedGrant> {
    let mut argument = QuerySize { dom: DOMID_SELF, ..QuerySize::default() };
    command::QUERY_SIZE.call(hypervisor, &mut argument).map_err(RefusedGrant::Xen)?;
    GrantError::check(argument.status).map_err(RefusedGrant::Operation)?;
    Ok((argument.nr_frames, argument.max_nr_frames))
}

/// Why an operation on grants was not done: Xen says it in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedGrant {
    /// The call failed.
    Xen(Errno),
    /// The call was made, and the operation failed.
    Operation(GrantError),
}

impl core::fmt::Display for RefusedGrant {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Xen(errno) => errno.fmt(f),
            Self::Operation(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for RefusedGrant {}
