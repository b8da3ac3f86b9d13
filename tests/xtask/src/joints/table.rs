//! The joints: what is done where driver, kexec and NT meet, and the test that fails when it is not.
//!
//! `original` must be in its file once, to the letter; `replacement` stands there when the joint is broken. A
//! joint that no longer applies fails the command.

/// A joint, and how it is broken.
#[derive(Clone, Copy, Debug)]
pub struct Joint {
    /// Its name in the output, such as `dpc-not-queued`.
    pub name: &'static str,
    /// The file, from the top of the repository.
    pub file: &'static str,
    /// What is there.
    pub original: &'static str,
    /// What stands there when it is broken.
    pub replacement: &'static str,
    /// The test of `tests/nt/tests/xenbus.rs` that watches it.
    pub test: &'static str,
}

const DPC: &str = "kexec/nt/src/dpc.rs";
const ALARM: &str = "kexec/nt/src/alarm.rs";
const WORKER: &str = "kexec/nt/src/worker.rs";
const DEVICE: &str = "kexec/nt/src/device.rs";
const IRP: &str = "kexec/nt/src/irp.rs";
const REQUEST: &str = "kexec/nt/src/request.rs";
const XENBUS: &str = "xenbus/driver/src/device.rs";
const RECORD: &str = "xenbus/driver/src/record.rs";
const FIND: &str = "xenbus/src/x86/find.rs";

/// Every joint.
#[rustfmt::skip]
pub const JOINTS: &[Joint] = &[
    // The doorbell is a KDPC.
    joint("doorbell-not-rung", DPC,
        "unsafe { ntddk::KeInsertQueueDpc(self.kdpc.get(), ptr::null_mut(), ptr::null_mut()) };",
        "let _ = (ntddk::KeInsertQueueDpc, self.kdpc.get());", "a_life"),
    joint("dpc-runs-nothing", DPC,
        "executor.try_run(&mut level);",
        "let _ = (executor, &mut level);", "a_life"),
    joint("last-interrupt-not-flushed", "kexec/nt/src/interrupt.rs",
        "unsafe { ntddk::KeFlushQueuedDpcs() };",
        "", "each_executor_is_silenced"),
    joint("dpcs-not-flushed", DPC,
        "unsafe { ntddk::KeFlushQueuedDpcs() };",
        "", "each_executor_is_silenced"),
    // The doorbell of what is done at `PASSIVE_LEVEL` is an event, which a thread waits for.
    joint("worker-not-rung", WORKER,
        "self.doorbell.set();",
        "let _ = &self.doorbell;", "passive::the_registry_says_what_was_found"),
    joint("worker-event-set-above-dispatch", WORKER,
        "if unsafe { ntddk::KeGetCurrentIrql() } <= DISPATCH_LEVEL {",
        "let _ = DISPATCH_LEVEL; if true {", "passive::the_registry_says_what_was_found"),
    joint("worker-relay-not-queued", WORKER,
        "unsafe { ntddk::KeInsertQueueDpc(self.relay(), ptr::null_mut(), ptr::null_mut()) };",
        "let _ = self.relay();", "passive::the_registry_says_what_was_found"),
    joint("worker-relay-rings-nobody", WORKER,
        "    worker.doorbell.set();",
        "    let _ = worker;", "passive::the_registry_says_what_was_found"),
    joint("worker-doorbell-not-reset", WORKER,
        "worker.doorbell.init(_EVENT_TYPE::SynchronizationEvent)",
        "worker.doorbell.init(_EVENT_TYPE::NotificationEvent)", "passive::the_registry_says_what_was_found"),
    joint("worker-ring-during-a-run-lost", WORKER,
        "if let Some(Run { end: End::Closed, .. }) = executor.try_run(&mut level) {",
        "let run = executor.try_run(&mut level); unsafe { ntddk::KeClearEvent(ptr::from_ref(&worker.doorbell).cast_mut().cast()) };\n\
         if let Some(Run { end: End::Closed, .. }) = run {",
        "passive::its_doorbell_is_rung_at_dispatch_level_or_by_itself"),
    joint("worker-outlives-its-executor", WORKER,
        "if let Some(Run { end: End::Closed, .. }) = executor.try_run(&mut level) {",
        "if let (false, Some(Run { end: End::Closed, .. })) = (true, executor.try_run(&mut level)) {",
        "passive::a_removal_ends_work_at_passive_level"),
    joint("worker-not-waited-for", WORKER,
        "self.over.wait(passive);",
        "let _ = passive;", "passive::a_removal_ends_work_at_passive_level"),
    joint("worker-relay-not-flushed", WORKER,
        "unsafe { ntddk::KeFlushQueuedDpcs() };",
        "", "each_executor_is_silenced"),
    joint("worker-touches-memory-after-the-last", WORKER,
        "worker.over.set();",
        "worker.over.set(); worker.thread.store(ptr::null_mut(), Relaxed);", "passive::a_removal_ends_work_at_passive_level"),
    joint("worker-handle-left", WORKER,
        "unsafe { ntddk::ZwClose(thread) };",
        "", "a_life"),
    joint("worker-handle-for-users", WORKER,
        "Attributes: OBJ_KERNEL_HANDLE,",
        "Attributes: OBJ_KERNEL_HANDLE & 0,", "a_life"),
    joint("worker-not-closed", RECORD,
        "if let Ok(close) = self.worker.close() {",
        "if let (false, Ok(close)) = (true, self.worker.close()) {", "passive::a_removal_ends_work_at_passive_level"),
    joint("worker-not-silenced", RECORD,
        "block_on(passive, close).silence(passive);",
        "let _ = block_on(passive, close);", "passive::a_removal_ends_work_at_passive_level"),
    joint("worker-left-by-a-failed-start", XENBUS,
        "                record.close(passive);\n",
        "", "low_memory_is_survived"),
    joint("key-handle-left", "kexec/nt/src/registry.rs",
        "unsafe { ntddk::ZwClose(key) };",
        "", "a_life"),
    // A wake from below `DISPATCH_LEVEL` raises around push and doorbell, and lowers again.
    joint("wake-not-raised", "kexec/nt/src/irql.rs",
        "if found < DISPATCH_LEVEL {",
        "if false && found < DISPATCH_LEVEL {", "doorbells_are_rung_at_dispatch_level"),
    joint("wake-not-lowered", "kexec/nt/src/irql.rs",
        "unsafe { ntddk::KeLowerIrql(level) };",
        "let _ = level;", "a_life"),
    // The interrupt wakes a task, from its own level.
    joint("interrupt-wakes-nobody", XENBUS,
        "self.upcall.raise();",
        "", "a_request_is_answered_by_its_upcall"),
    joint("interrupt-not-disconnected", XENBUS,
        "running.interrupt.disconnect(passive);",
        "let _ = running.interrupt;", "a_life"),
    // The alarm is a KTIMER, whose KDPC is the doorbell's.
    joint("timer-not-set", ALARM,
        "unsafe { ntddk::KeSetCoalescableTimer(self.timer(), due, 0, tolerable, kdpc) };",
        "let _ = (due, tolerable, kdpc);", "a_beat_answers_when_no_upcall_comes"),
    joint("timer-without-its-dpc", ALARM,
        "ntddk::KeSetCoalescableTimer(self.timer(), due, 0, tolerable, kdpc)",
        "ntddk::KeSetCoalescableTimer(self.timer(), due, 0, tolerable, { let _ = kdpc; core::ptr::null_mut() })",
        "a_beat_answers_when_no_upcall_comes"),
    joint("timer-believed-to-be-set", ALARM,
        "(unsafe { ntddk::KeReadStateTimer(self.timer()) }) == nt_sys::FALSE",
        "true", "a_beat_answers_when_no_upcall_comes"),
    joint("timer-not-cancelled", ALARM,
        "unsafe { ntddk::KeCancelTimer(self.timer()) };",
        "", "a_life"),
    joint("beat-not-raised", XENBUS,
        "events.beat.raise();",
        "let _ = events;", "a_beat_answers_when_no_upcall_comes"),
    // A thread waits for a task.
    joint("waiter-not-woken", "kexec/nt/src/wait.rs",
        "unsafe { &*parker.cast::<Parker>() }.event.set();",
        "", "a_removal_waits_for_a_slow_task"),
    joint("waiter-not-freed", "kexec/nt/src/wait.rs",
        "if before == 1 {",
        "if before == 2 {", "a_life"),
    joint("waiter-takes-memory-for-granted", "kexec/nt/src/wait.rs",
        "let Some(parker) = Parker::new() else {",
        "let parker = Parker::new().unwrap_or(NonNull::dangling()); if false {", "a_removal_waits_without_memory"),
    // An IRP is owned, and completed once.
    joint("irp-not-marked-pending", IRP,
        "self.stack_mut().Control |= SL_PENDING_RETURNED;",
        "", "a_life"),
    joint("irp-completed-twice", IRP,
        "unsafe { ntddk::IofCompleteRequest(self.0.as_ptr(), IO_NO_INCREMENT) };",
        "unsafe { ntddk::IofCompleteRequest(self.0.as_ptr(), IO_NO_INCREMENT); \
         ntddk::IofCompleteRequest(self.0.as_ptr(), IO_NO_INCREMENT) };", "a_life"),
    joint("irp-touched-after-completion", IRP,
        "unsafe { ntddk::IofCompleteRequest(self.0.as_ptr(), IO_NO_INCREMENT) };",
        "unsafe { ntddk::IofCompleteRequest(self.0.as_ptr(), IO_NO_INCREMENT); (*self.0.as_ptr()).IoStatus.Information = 0 };",
        "an_upcall_inside_a_completion_wakes_nobody_that_is_not_there"),
    joint("irp-without-status", IRP,
        "self.set_status(status, information);",
        "let _ = information;", "a_life"),
    joint("irp-location-not-skipped", IRP,
        "*number = number.wrapping_add(1);",
        "let _ = number;", "everything_else_is_passed_on"),
    joint("request-dropped-unanswered", REQUEST,
        "self.answer(|request| request.fail(Status::failure(STATUS_CANCELLED)));",
        "let _ = STATUS_CANCELLED;", "a_removal_ends_all_requests"),
    joint("request-answered-too-long", REQUEST,
        "let Some(output) = self.output().get_mut(..data.len()) else {",
        "let room = self.room().max(data.len()); let buffer = self.irp.system_buffer(); let all = if buffer.is_null() { &mut [] } else { \
         unsafe { slice::from_raw_parts_mut(buffer, room) } }; let Some(output) = all.get_mut(..data.len()) else {",
        "bad_requests_are_refused"),
    joint("request-lost-when-full", XENBUS,
        "Err(SpawnError::Full((.., epilogue))) => epilogue(level, Ok(Err(Failure::Busy))),",
        "Err(SpawnError::Full((.., epilogue))) => core::mem::forget(epilogue),", "one_request_too_many_is_refused"),
    // The device's life.
    joint("start-not-passed-on", DEVICE,
        "let below = Status::check(irp.pass_and_wait(lower, &mut passive));",
        "let below = Status::check(STATUS_SUCCESS);", "a_life"),
    joint("start-does-nothing", DEVICE,
        "irp.complete(status::code(below.and_then(|()| extension.start(&mut passive))), 0)",
        "irp.complete(status::code(below), 0)", "a_life"),
    joint("remove-not-passed-on", DEVICE,
        "let dispatched = irp.pass(lower);\n        // SAFETY: ours is attached",
        "let dispatched = irp.complete(STATUS_SUCCESS, 0);\n        // SAFETY: ours is attached", "a_life"),
    joint("requests-outlive-removal", DEVICE,
        "F::quiesce(running, passive);",
        "", "a_removal_ends_all_requests"),
    joint("removal-does-not-wait", DEVICE,
        "held.wait_for_others(passive);",
        "drop(held);", "a_removal_ends_all_requests"),
    joint("device-not-detached", DEVICE,
        "unsafe { ntddk::IoDetachDevice(lower.0) };",
        "", "a_life"),
    joint("device-not-deleted", DEVICE,
        "unsafe { ntddk::IoDeleteDevice(device) };\n        dispatched",
        "let _ = device; dispatched", "a_life"),
    joint("device-still-initializing", DEVICE,
        "*flags &= !DO_DEVICE_INITIALIZING;",
        "", "a_life"),
    // The executor is run down before its memory goes.
    joint("executor-not-closed", XENBUS,
        "if let Ok(close) = self.executor.close() {",
        "if let (false, Ok(close)) = (true, self.executor.close()) {", "a_removal_ends_all_requests"),
    joint("executor-not-silenced", XENBUS,
        "block_on(passive, close).silence(passive);",
        "let _ = block_on(passive, close);", "each_executor_is_silenced"),
    joint("memory-not-freed", "kexec/nt/src/memory.rs",
        "unsafe { ntddk::ExFreePoolWithTag(block.cast(), TAG) };",
        "", "a_life"),
    joint("memory-freed-too-early", XENBUS,
        "running.interrupt.disconnect(passive);\n",
        "let interrupt = running.interrupt; unsafe { running.memory.free() }; interrupt.disconnect(passive); return;\n",
        "upcalls_during_a_removal_harm_nobody"),
    // Xen is found, and asked.
    joint("other-makers-instruction", FIND,
        "b\"AuthenticAMD\" | b\"HygonGenuine\" => Some(Self::Vmmcall),",
        "b\"AuthenticAMD\" | b\"HygonGenuine\" => Some(Self::Vmcall),", "finds_every_xen"),
    joint("only-the-first-leaf", FIND,
        "(cpuid::FIRST_LEAF..cpuid::END_OF_LEAVES)",
        "(cpuid::FIRST_LEAF..cpuid::FIRST_LEAF + 1)", "finds_every_xen"),
    joint("xen-not-given-a-page", "xenbus/src/x86/privileged.rs",
        "unsafe { self.processor.write_msr(self.number, address) };",
        "let _ = (self.number, address);", "unknown::a_life_on_an_unknown_processor"),
    joint("xen-given-another-page", "kexec/nt/src/page.rs",
        "address >> SHIFT",
        "address >> SHIFT ^ 1", "unknown::a_life_on_an_unknown_processor"),
    joint("any-entry-believed", "xenbus/src/x86/page.rs",
        "judge(&entry).ok_or(PageError::StrangeEntry(entry))",
        "judge(&entry).or(Some(Instruction::Vmcall)).ok_or(PageError::StrangeEntry(entry))", "unknown::does_not_start_with_a_strange_page"),
    joint("busy-xen-not-asked-again", "xenbus/src/hypercall.rs",
        "Err(Errno::EAGAIN | Errno::EBUSY) => yield_now().await,",
        "Err(Errno::EAGAIN | Errno::EBUSY) => return Err(Errno::EAGAIN),", "a_busy_xen_is_asked_again"),
    // The dump's entry.
    joint("dump-entered-as-driver", "xenbus/driver/src/entry.rs",
        "if let Some(driver) = NonNull::new(driver) {",
        "if let Some(driver) = Some(NonNull::new(driver).unwrap_or(NonNull::dangling())) {", "the_dump_asks_the_same_question"),
    joint("dump-allocates", "xenbus/driver/src/dump.rs",
        "let Some(Ok(xen)) = find::xen() else { return STATUS_NO_SUCH_DEVICE };",
        "let Some(Ok(xen)) = find::xen() else { return STATUS_NO_SUCH_DEVICE };\n    let _ = kexec_nt::memory::DeviceMemory::new().put(0_u64);",
        "the_dump_asks_the_same_question"),
    joint("dump-polls-nothing", "kexec/src/crash.rs",
        "self.try_run(level);",
        "let _ = &level;", "the_dump_asks_the_same_question"),
];

/// A row of the table.
const fn joint(
    name: &'static str,
    file: &'static str,
    original: &'static str,
    replacement: &'static str,
    test: &'static str,
) -> Joint {
    Joint { name, file, original, replacement, test }
}
