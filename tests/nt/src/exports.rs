//! What the simulated kernel exports: one row each. What is not here fails the load of a driver that imports it.
#![forbid(unsafe_code)]

use std::{fmt, ops::RangeInclusive};

use crate::{
    call::{Call, Outcome},
    cpu::{APC_LEVEL, DISPATCH_LEVEL, HIGH_LEVEL, PASSIVE_LEVEL},
    kernel::Kernel,
};

/// An exported function.
pub(crate) struct Export {
    pub(crate) name: &'static str,
    module: &'static str,
    /// How many parameters it has; only the fixed ones of a variadic function.
    pub(crate) arguments: u8,
    /// The IRQLs at which it may be called.
    pub(crate) irql: RangeInclusive<u8>,
    /// The documentation page that says so.
    pub(crate) source: &'static str,
    /// Whether it can be called while a dump is written.
    pub(crate) in_dump: bool,
    /// Does what the function does.
    pub(crate) double: fn(&mut Kernel, &Call) -> Outcome,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}!{}", self.module, self.name)
    }
}

/// The modules that drivers import from.
pub(crate) const NT: &str = "ntoskrnl.exe";
const HAL: &str = "hal.dll";

/// "Restrictions on Miniport Drivers that Manage the Boot Drive": no DPCs, no waiting, hardly any memory. What is left
/// looks at the processor, at the clock and at where memory is, or says something.
const ALWAYS: bool = true;
const NOT_IN_A_DUMP: bool = false;

const ANY: RangeInclusive<u8> = PASSIVE_LEVEL..=HIGH_LEVEL;
const UP_TO_DISPATCH: RangeInclusive<u8> = PASSIVE_LEVEL..=DISPATCH_LEVEL;
const AT_DISPATCH: RangeInclusive<u8> = DISPATCH_LEVEL..=DISPATCH_LEVEL;
const UP_TO_APC: RangeInclusive<u8> = PASSIVE_LEVEL..=APC_LEVEL;
const PASSIVE: RangeInclusive<u8> = PASSIVE_LEVEL..=PASSIVE_LEVEL;

/// Every export there is. The source is the title of its page in the WDK's reference, without "function (wdm.h)".
#[rustfmt::skip]
static EXPORTS: &[Export] = &[
    // Debugging, and the end.
    row("DbgPrintEx",                      NT,  3, ANY,            "DbgPrintEx",                      ALWAYS,        Kernel::dbg_print_ex),
    row("KeBugCheckEx",                    NT,  5, ANY,            "KeBugCheckEx",                    ALWAYS,        Kernel::ke_bug_check_ex),
    // Memory.
    row("ExAllocatePoolWithTag",           NT,  3, UP_TO_DISPATCH, "ExAllocatePoolWithTag",           NOT_IN_A_DUMP, Kernel::ex_allocate_pool_with_tag),
    row("ExFreePoolWithTag",               NT,  2, UP_TO_DISPATCH, "ExFreePoolWithTag",               NOT_IN_A_DUMP, Kernel::ex_free_pool_with_tag),
    row("MmGetPhysicalAddress",            NT,  1, ANY,            "MmGetPhysicalAddress",            ALWAYS,        Kernel::mm_get_physical_address),
    // IRQL and locks.
    row("KeGetCurrentIrql",                NT,  0, ANY,            "KeGetCurrentIrql",                ALWAYS,        Kernel::ke_get_current_irql),
    row("KeRaiseIrqlToDpcLevel",           NT,  0, UP_TO_DISPATCH, "KeRaiseIrqlToDpcLevel",           NOT_IN_A_DUMP, Kernel::ke_raise_irql_to_dpc_level),
    row("KfRaiseIrql",                     NT,  1, ANY,            "KeRaiseIrql",                     NOT_IN_A_DUMP, Kernel::kf_raise_irql),
    row("KeLowerIrql",                     NT,  1, ANY,            "KeLowerIrql",                     NOT_IN_A_DUMP, Kernel::ke_lower_irql),
    row("KeAcquireSpinLockRaiseToDpc",     NT,  1, UP_TO_DISPATCH, "KeAcquireSpinLockRaiseToDpc",     NOT_IN_A_DUMP, Kernel::ke_acquire_spin_lock_raise_to_dpc),
    row("KeReleaseSpinLock",               NT,  2, AT_DISPATCH,    "KeReleaseSpinLock",               NOT_IN_A_DUMP, Kernel::ke_release_spin_lock),
    row("KeAcquireSpinLockAtDpcLevel",     NT,  1, AT_DISPATCH,    "Managing Hardware Priorities",    NOT_IN_A_DUMP, Kernel::ke_acquire_spin_lock_at_dpc_level),
    row("KeReleaseSpinLockFromDpcLevel",   NT,  1, AT_DISPATCH,    "KeReleaseSpinLockFromDpcLevel",   NOT_IN_A_DUMP, Kernel::ke_release_spin_lock_from_dpc_level),
    // Processors.
    row("KeQueryActiveProcessorCountEx",   NT,  1, ANY,            "KeQueryActiveProcessorCountEx",   NOT_IN_A_DUMP, Kernel::ke_query_active_processor_count_ex),
    row("KeGetCurrentProcessorNumberEx",   NT,  1, ANY,            "KeGetCurrentProcessorNumberEx",   ALWAYS,        Kernel::ke_get_current_processor_number_ex),
    // DPCs.
    row("KeInitializeDpc",                 NT,  3, ANY,            "KeInitializeDpc",                 NOT_IN_A_DUMP, Kernel::ke_initialize_dpc),
    row("KeSetImportanceDpc",              NT,  2, ANY,            "KeSetImportanceDpc",              NOT_IN_A_DUMP, Kernel::ke_set_importance_dpc),
    row("KeSetTargetProcessorDpcEx",       NT,  2, ANY,            "KeSetTargetProcessorDpcEx",       NOT_IN_A_DUMP, Kernel::ke_set_target_processor_dpc_ex),
    row("KeInsertQueueDpc",                NT,  3, ANY,            "KeInsertQueueDpc",                NOT_IN_A_DUMP, Kernel::ke_insert_queue_dpc),
    row("KeRemoveQueueDpc",                NT,  1, ANY,            "KeRemoveQueueDpc",                NOT_IN_A_DUMP, Kernel::ke_remove_queue_dpc),
    row("KeFlushQueuedDpcs",               NT,  0, PASSIVE,        "KeFlushQueuedDpcs",               NOT_IN_A_DUMP, Kernel::ke_flush_queued_dpcs),
    // Events and timers.
    row("KeInitializeEvent",               NT,  3, ANY,            "KeInitializeEvent",               NOT_IN_A_DUMP, Kernel::ke_initialize_event),
    row("KeSetEvent",                      NT,  3, UP_TO_DISPATCH, "KeSetEvent",                      NOT_IN_A_DUMP, Kernel::ke_set_event),
    row("KeClearEvent",                    NT,  1, UP_TO_DISPATCH, "KeClearEvent",                    NOT_IN_A_DUMP, Kernel::ke_clear_event),
    row("KeResetEvent",                    NT,  1, UP_TO_DISPATCH, "KeResetEvent",                    NOT_IN_A_DUMP, Kernel::ke_reset_event),
    row("KeWaitForSingleObject",           NT,  5, UP_TO_DISPATCH, "KeWaitForSingleObject",           NOT_IN_A_DUMP, Kernel::ke_wait_for_single_object),
    row("KeDelayExecutionThread",          NT,  3, UP_TO_APC,      "KeDelayExecutionThread",          NOT_IN_A_DUMP, Kernel::ke_delay_execution_thread),
    row("KeInitializeTimerEx",             NT,  2, UP_TO_DISPATCH, "KeInitializeTimerEx",             NOT_IN_A_DUMP, Kernel::ke_initialize_timer_ex),
    row("KeSetTimerEx",                    NT,  4, UP_TO_DISPATCH, "KeSetTimerEx",                    NOT_IN_A_DUMP, Kernel::ke_set_timer_ex),
    row("KeSetCoalescableTimer",           NT,  5, UP_TO_DISPATCH, "KeSetCoalescableTimer",           NOT_IN_A_DUMP, Kernel::ke_set_coalescable_timer),
    row("KeCancelTimer",                   NT,  1, UP_TO_DISPATCH, "KeCancelTimer",                   NOT_IN_A_DUMP, Kernel::ke_cancel_timer),
    row("KeReadStateTimer",                NT,  1, UP_TO_DISPATCH, "KeReadStateTimer",                NOT_IN_A_DUMP, Kernel::ke_read_state_timer),
    // Time.
    row("KeQueryPerformanceCounter",       HAL, 1, ANY,            "KeQueryPerformanceCounter",       ALWAYS,        Kernel::ke_query_performance_counter),
    row("KeStallExecutionProcessor",       HAL, 1, ANY,            "KeStallExecutionProcessor",       ALWAYS,        Kernel::ke_stall_execution_processor),
    row("KeQueryUnbiasedInterruptTime",    NT,  0, ANY,            "KeQueryUnbiasedInterruptTime",    NOT_IN_A_DUMP, Kernel::ke_query_unbiased_interrupt_time),
    // Threads and handles.
    row("IoCreateSystemThread",            NT,  8, PASSIVE,        "IoCreateSystemThread",            NOT_IN_A_DUMP, Kernel::io_create_system_thread),
    row("PsGetCurrentThreadId",            NT,  0, ANY,            "PsGetCurrentThreadId",            NOT_IN_A_DUMP, Kernel::ps_get_current_thread_id),
    row("ZwClose",                         NT,  1, PASSIVE,        "ZwClose",                         NOT_IN_A_DUMP, Kernel::zw_close),
    // The registry.
    row("IoOpenDeviceRegistryKey",         NT,  4, PASSIVE,        "IoOpenDeviceRegistryKey",         NOT_IN_A_DUMP, Kernel::io_open_device_registry_key),
    row("ZwSetValueKey",                   NT,  6, PASSIVE,        "ZwSetValueKey",                   NOT_IN_A_DUMP, Kernel::zw_set_value_key),
    // Devices.
    row("IoCreateDevice",                  NT,  7, UP_TO_APC,      "IoCreateDevice",                  NOT_IN_A_DUMP, Kernel::io_create_device),
    row("IoDeleteDevice",                  NT,  1, UP_TO_APC,      "IoDeleteDevice",                  NOT_IN_A_DUMP, Kernel::io_delete_device),
    row("IoAttachDeviceToDeviceStack",     NT,  2, UP_TO_DISPATCH, "IoAttachDeviceToDeviceStack",     NOT_IN_A_DUMP, Kernel::io_attach_device_to_device_stack),
    row("IoAttachDeviceToDeviceStackSafe", NT,  3, UP_TO_DISPATCH, "IoAttachDeviceToDeviceStackSafe", NOT_IN_A_DUMP, Kernel::io_attach_device_to_device_stack_safe),
    row("IoDetachDevice",                  NT,  1, PASSIVE,        "IoDetachDevice",                  NOT_IN_A_DUMP, Kernel::io_detach_device),
    // IRPs.
    row("IofCallDriver",                   NT,  2, UP_TO_DISPATCH, "IofCallDriver",                   NOT_IN_A_DUMP, Kernel::iof_call_driver),
    row("IoForwardIrpSynchronously",       NT,  2, PASSIVE,        "IoForwardIrpSynchronously",       NOT_IN_A_DUMP, Kernel::io_forward_irp_synchronously),
    row("IofCompleteRequest",              NT,  2, UP_TO_DISPATCH, "IoCompleteRequest",               NOT_IN_A_DUMP, Kernel::iof_complete_request),
    // Interrupts.
    row("IoConnectInterruptEx",            NT,  1, PASSIVE,        "IoConnectInterruptEx",            NOT_IN_A_DUMP, Kernel::io_connect_interrupt_ex),
    row("IoDisconnectInterruptEx",         NT,  1, PASSIVE,        "IoDisconnectInterruptEx",         NOT_IN_A_DUMP, Kernel::io_disconnect_interrupt_ex),
    // Remove locks.
    row("IoInitializeRemoveLockEx",        NT,  5, PASSIVE,        "IoInitializeRemoveLock",          NOT_IN_A_DUMP, Kernel::io_initialize_remove_lock_ex),
    row("IoAcquireRemoveLockEx",           NT,  5, UP_TO_DISPATCH, "IoAcquireRemoveLock",             NOT_IN_A_DUMP, Kernel::io_acquire_remove_lock_ex),
    row("IoReleaseRemoveLockEx",           NT,  3, UP_TO_DISPATCH, "IoReleaseRemoveLock",             NOT_IN_A_DUMP, Kernel::io_release_remove_lock_ex),
    row("IoReleaseRemoveLockAndWaitEx",    NT,  3, PASSIVE,        "IoReleaseRemoveLockAndWait",      NOT_IN_A_DUMP, Kernel::io_release_remove_lock_and_wait_ex),
];

/// A row of the table.
const fn row(
    name: &'static str,
    module: &'static str,
    arguments: u8,
    irql: RangeInclusive<u8>,
    source: &'static str,
    in_dump: bool,
    double: fn(&mut Kernel, &Call) -> Outcome,
) -> Export {
    Export { name, module, arguments, irql, source, in_dump, double }
}

/// The export of this name.
pub(crate) fn find(module: &str, name: &str) -> Option<&'static Export> {
    EXPORTS.iter().find(|export| export.name == name && module.eq_ignore_ascii_case(export.module))
}
