//! What a domain may use of the daemon.
//!
//! A quota is the number that a domain does not come to: of a quota of 128 watches, 127 can be had. Zero is no limit. None is
//! for the control domain.
#![forbid(unsafe_code)]

/// Writes the enumeration of quotas, their names and the values that Xen begins with from one table.
macro_rules! quotas {
    ($($(#[doc = $doc:literal])+ $variant:ident = $value:literal, $name:literal;)*) => {
        /// One thing that is limited.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Quota {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl Quota {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What `GET_QUOTA` calls it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl Default for Quotas {
            fn default() -> Self {
                Self([$($value,)*])
            }
        }
    };
}

quotas! {
    /// Nodes that the domain owns.
    Nodes = 1000, "nodes";
    /// Its watches.
    Watches = 128, "watches";
    /// Its requests whose reply, or an event that they caused, somebody has not taken yet: it is not listened to meanwhile.
    Outstanding = 20, "outstanding";
    /// Bytes: nodes, watches, transactions, and what waits to be sent to it.
    Memory = 2_621_440, "memory";
    /// Its open transactions.
    Transactions = 10, "transactions";
    /// Nodes that one transaction touches.
    TransactionNodes = 1024, "transaction-nodes";
    /// Permissions of a node.
    Permissions = 5, "node-permissions";
    /// Bytes of a path.
    PathLength = 2048, "path-max";
    /// Bytes of a node.
    NodeSize = 2048, "node-size";
}

/// A value for each [`Quota`]: by default, that of Xen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas([u32; Quota::ALL.len()]);

impl Quotas {
    /// The value of one.
    #[must_use]
    pub const fn get(&self, quota: Quota) -> u32 {
        self.0[quota as usize]
    }

    /// The same quotas, with another value for one.
    #[must_use]
    pub const fn with(mut self, quota: Quota, value: u32) -> Self {
        self.0[quota as usize] = value;
        self
    }

    pub(super) const fn is_reached(&self, quota: Quota, value: usize) -> bool {
        let most = self.get(quota);
        most != 0 && value >= most as usize
    }
}
