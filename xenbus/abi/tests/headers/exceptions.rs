//! Where the crate and the headers differ, and why. Each entry is needed: one that is not fails, too.
#![forbid(unsafe_code)]

/// Facts that the headers deny.
pub(crate) struct Exception {
    pub(crate) facts: &'static [&'static str],
    /// What the headers have: a condition in C.
    pub(crate) instead: &'static str,
    pub(crate) why: &'static str,
}

pub(crate) const EXCEPTIONS: &[Exception] = &[
    Exception {
        facts: &["io::ring::Sring: size", "io::ring::Sring: alignment", "io::ring::Sring.ring: missing"],
        instead: "sizeof(rust_io__ring__Sring) == offsetof(struct blkif_sring, ring)",
        why: "the slots, which are behind it, are not the same in each ring",
    },
    Exception {
        facts: &["version::BuildId.buf: missing"],
        instead: "sizeof(rust_version__BuildId) == offsetof(struct xen_build_id, buf)",
        why: "the bytes, which are behind it, are as many as the caller likes",
    },
    Exception {
        facts: &[
            "io::xs_wire::MessageType::GetFeature == XS_GET_FEATURE",
            "io::xs_wire::MessageType::SetFeature == XS_SET_FEATURE",
            "io::xs_wire::MessageType::GetQuota == XS_GET_QUOTA",
            "io::xs_wire::MessageType::SetQuota == XS_SET_QUOTA",
        ],
        instead: "XS_TYPE_COUNT == 23",
        why: "they are the first numbers after those of Xen 4.17",
    },
];

/// What the headers do not have.
pub(crate) const OURS: &[(&[&str], &str)] = &[
    (
        &[
            "cpuid::END_OF_LEAVES",
            "cpuid::FEWEST_LEAVES",
            "cpuid::HVM",
            "cpuid::HYPERCALL_PAGE",
            "cpuid::LEAF_STEP",
            "cpuid::PV",
            "cpuid::TIME",
            "cpuid::VERSION",
            "hypercall::ENTRY_SIZE",
        ],
        "the header has it in a comment",
    ),
    (
        &[
            "hvm::emulated_unplug::BLOCKED",
            "hvm::emulated_unplug::CONTROL",
            "hvm::emulated_unplug::MAGIC",
            "hvm::emulated_unplug::UNPLUG_AUX_IDE_DISKS",
            "hvm::emulated_unplug::UNPLUG_DISKS",
            "hvm::emulated_unplug::UNPLUG_NICS",
            "hvm::emulated_unplug::UNPLUG_NVME_DISKS",
            "hvm::emulated_unplug::VERSION",
        ],
        "docs/misc/hvm-emulated-unplug.pandoc has it, and no header",
    ),
    (
        &["io::blkif::SLOTS", "io::netif::RX_SLOTS", "io::netif::TX_SLOTS", "io::netif::control::SLOTS"],
        "it comes from a function that is compared",
    ),
    (
        &[
            "io::xs_wire::XENSTORE_SERVER_FEATURE_DOMID_ANY",
            "io::xs_wire::XENSTORE_SERVER_FEATURE_WATCHDEPTH",
        ],
        "it is later than Xen 4.17",
    ),
    (
        &["cpuid::SIGNATURE", "io::ring::NEW", "io::xenbus::XenbusState::ALL", "shared_info::VCPU_INFO"],
        "it is made of what is compared",
    ),
    (
        &["grant_table::ENTRIES_PER_PAGE", "io::console::IN_SIZE", "io::console::OUT_SIZE"],
        "it is the size of a structure or field that is compared",
    ),
    (
        &["hvm::emulated_unplug::PRODUCTS", "hvm::emulated_unplug::Product"],
        "it is compared by a test of its own",
    ),
    (
        &[
            "errno::Errno",
            "errno::Errno::MOST",
            "event_channel::Channel",
            "grant_table::status::GrantError",
            "hvm::params::CallbackVia",
            "io::xenbus::NoSuchState",
            "io::xs_wire::UnknownError",
            "io::xs_wire::UnknownType",
            "shared_info::VcpuInfos",
        ],
        "it is how Rust says what C has numbers for",
    ),
];

/// How the names begin of which the headers have none that is not here, but for those of [`LEFT_OUT`].
pub(crate) const FAMILIES: &[&str] = &[
    "BIND_PIRQ__",
    "BLKIF_",
    "CONSOLEIO_",
    "DOMID_",
    "EVTCHN",
    "GNTCOPY_",
    "GNTMAP_",
    "GNTST_",
    "GNTTAB",
    "GTF_",
    "HVMMEM_",
    "HVMOP_",
    "HVMPTM_",
    "HVMPV_",
    "HVM_PARAM_",
    "NETIF_",
    "NETRXF_",
    "NETTXF_",
    "RUNSTATE_",
    "SCHEDOP_",
    "SHUTDOWN_",
    "VCPUOP_",
    "VCPU_",
    "VDISK_",
    "VIRQ_",
    "VMASST_",
    "XENFEAT_",
    "XENMAP",
    "XENMEM",
    "XENSTORE_",
    "XENVER_",
    "XEN_ALTP2M_",
    "XEN_CPUID_",
    "XEN_E",
    "XEN_HVM_",
    "XEN_IO_PROTO_",
    "XEN_NETIF_",
    "XEN_PVCLOCK_",
    "XS_",
    "XenbusState",
    "__HYPERVISOR_",
    "struct arch_",
    "struct blkif_",
    "struct evtchn_",
    "struct gnttab_",
    "struct grant_",
    "struct netif_",
    "struct sched_",
    "struct shared_info",
    "struct vcpu_",
    "struct xen_",
    "struct xencons_",
    "struct xenstore_",
    "struct xsd_",
];

/// What of the headers is not here. With a `*`, all that begin so.
pub(crate) const LEFT_OUT: &[(&[&str], &str)] = &[
    (&["XEN_EWOULDBLOCK", "XEN_EDEADLOCK"], "it is another name of a number that is here"),
    (&["GNTTABOP_error_msgs"], "the texts are the crate's own"),
    (
        &[
            "struct blkif_back_ring",
            "struct blkif_front_ring",
            "struct netif_rx_back_ring",
            "struct netif_rx_front_ring",
            "struct netif_tx_back_ring",
            "struct netif_tx_front_ring",
            "struct xen_netif_ctrl_back_ring",
            "struct xen_netif_ctrl_front_ring",
        ],
        "it is each half's private business",
    ),
    (
        &["struct netif_rx_sring", "struct netif_tx_sring", "struct xen_netif_ctrl_sring"],
        "but for its slots it is the structure of every ring",
    ),
    (
        &["struct grant_entry_header", "struct gnttab_get_status_frames"],
        "it is of version 2 of the grant table, which no driver needs",
    ),
    (
        &[
            "VMASST_TYPE_4gb_segments*",
            "VMASST_TYPE_architectural_iopl",
            "VMASST_TYPE_m2p_strict",
            "VMASST_TYPE_pae_extended_cr3",
            "VMASST_TYPE_writable_pagetables",
            "XENMEM_exchange",
            "XENMEM_machphys_*",
            "__HYPERVISOR_VIRT_*",
            "struct gnttab_transfer",
            "struct gnttab_unmap_and_replace",
            "struct vcpu_guest_context",
            "struct xen_machphys_*",
            "struct xen_memory_exchange",
            "struct xen_multiboot_mod_list",
        ],
        "it is for PV guests",
    ),
    (
        &[
            "XENMEM_acquire_resource",
            "XENMEM_get_pod_target",
            "XENMEM_machine_memory_map",
            "XENMEM_maximum_ram_page",
            "XENMEM_resource_*",
            "XENMEM_set_memory_map",
            "XENMEM_set_pod_target",
            "struct gnttab_dump_table",
            "struct xen_cpuid_leaf",
            "struct xen_foreign_memory_map",
            "struct xen_mem_acquire_resource",
            "struct xen_msr_entry",
            "struct xen_pod_target",
        ],
        "it is for the control domain and device models",
    ),
    (
        &[
            "HVMOP_ALTP2M_INTERFACE_VERSION",
            "HVMOP_altp2m*",
            "HVMOP_guest_request_vm_event",
            "HVMOP_xentrace",
            "XENMEM_get_vnumainfo",
            "struct gnttab_swap_grant_ref",
            "struct xen_hvm_altp2m_*",
            "struct xen_hvm_xentrace",
            "struct xen_vmemrange",
            "struct xen_vnuma_topology_info",
        ],
        "no driver of a guest needs it",
    ),
    (&["XS_DEBUG"], "it is the old name of a number that is here"),
    (&["XS_TYPE_COUNT"], "it counts what this header has"),
    (&["XS_WATCH_PATH", "XS_WATCH_TOKEN"], "they are the order of two strings"),
    (&["XS_WRITE_*"], "no request has had these flags for long"),
    (&["struct xsd_errors"], "it is compared by a test of its own"),
    (&["GNTTAB_CACHE_*", "struct gnttab_cache_flush"], "it is for ARM"),
    (&["struct evtchn_op"], "it is the argument of a call from before Xen 3.2"),
    (
        &["XEN_CPUID_NO_SUBLEAF", "XEN_EMULATE_PREFIX", "XEN_EXTRAVERSION_LEN"],
        "it only begins like the names of a family",
    ),
];
