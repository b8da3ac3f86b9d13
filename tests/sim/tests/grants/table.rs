//! The table itself: its size, its version, its pages.

use xen_abi::{
    DomId, Errno, GrantRef,
    domid::DOMID_SELF,
    grant_table::{
        ENTRIES, FLAGS, GTF_PERMIT_ACCESS, GrantEntryV1,
        op::{
            GNTTABOP_CACHE_FLUSH, GNTTABOP_COPY, GNTTABOP_DUMP_TABLE, GNTTABOP_GET_STATUS_FRAMES,
            GNTTABOP_GET_VERSION, GNTTABOP_MAP_GRANT_REF, GNTTABOP_QUERY_SIZE, GNTTABOP_SET_VERSION,
            GNTTABOP_SETUP_TABLE, GNTTABOP_TRANSFER, GNTTABOP_UNMAP_AND_REPLACE, GNTTABOP_UNMAP_GRANT_REF,
            GetVersion, QuerySize, SetVersion, SetupTable,
        },
        status::GrantError,
    },
    hypercall::GRANT_TABLE_OP,
    memory::XENMAPSPACE_GRANT_TABLE,
    seam::{Access as _, Gfn, Place},
};
use xen_sim::{Access, Arena};

use crate::{
    kernel::{ARGUMENTS, ARRAYS, Kernel, LENGTH, grant},
    small,
};

/// Another domain, and none.
const OTHERS: [(DomId, GrantError, Errno); 3] = [
    (DomId(0), GrantError::PERMISSION_DENIED, Errno::EPERM),
    (DomId(7), GrantError::BAD_DOMAIN, Errno::ESRCH),
    (DomId(0x7FF4), GrantError::BAD_DOMAIN, Errno::ESRCH),
];

fn size(kernel: &Kernel, dom: DomId) -> Result<(u32, u32), GrantError> {
    let mut op = QuerySize { dom, status: 1, ..Default::default() };
    assert_eq!(kernel.grant_op(GNTTABOP_QUERY_SIZE, &mut op), Ok(0));
    GrantError::check(op.status).map(|()| (op.nr_frames, op.max_nr_frames))
}

fn setup(kernel: &Kernel, dom: DomId, nr_frames: u32, frame_list: u64) -> (Result<(), GrantError>, Vec<u64>) {
    let mut arena = Arena::new(ARGUMENTS, LENGTH);
    let mut op = SetupTable { dom, nr_frames, frame_list, status: 1, ..Default::default() };
    assert_eq!(kernel.call(GRANT_TABLE_OP, GNTTABOP_SETUP_TABLE, 1, &mut op, &mut arena), Ok(0));
    let places = (0..u64::from(nr_frames)).map_while(|frame| arena.get(frame_list + frame * 8).ok());
    (GrantError::check(op.status), places.collect())
}

/// The current and the maximal size; a guest may ask about itself, by either name, and about nobody else.
#[test]
fn query_size_answers_both_sizes_to_the_guest_itself() {
    let kernel = small();
    let own = DomId(kernel.guest.domain());
    assert_eq!(size(&kernel, DOMID_SELF), Ok((1, 2)));
    assert_eq!(size(&kernel, own), Ok((1, 2)));
    for (dom, status, _) in OTHERS {
        assert_eq!(size(&kernel, dom), Err(status), "{dom}");
    }
}

/// The table is at least as large as was asked for, and its pages' places are told, which are nowhere so far.
#[test]
fn setup_table_grows_the_table_and_says_where_it_is() {
    const NOWHERE: u64 = !0;
    let kernel = small();
    assert_eq!(setup(&kernel, DOMID_SELF, 2, ARRAYS), (Ok(()), vec![NOWHERE; 2]));
    assert_eq!(size(&kernel, DOMID_SELF), Ok((2, 2)));
    let frame = kernel.hole();
    assert_eq!(kernel.place(XENMAPSPACE_GRANT_TABLE, 1, frame.gfn()), Ok(0));
    assert_eq!(setup(&kernel, DOMID_SELF, 2, ARRAYS), (Ok(()), vec![NOWHERE, frame.gfn().0]));
    assert_eq!(
        setup(&kernel, DOMID_SELF, 0, 0),
        (Ok(()), vec![]),
        "no place is written that was not asked for"
    );
    assert_eq!(setup(&kernel, DOMID_SELF, 3, ARRAYS).0, Err(GrantError::GENERAL_ERROR), "beyond the maximum");
    assert_eq!(setup(&kernel, DOMID_SELF, u32::MAX, ARRAYS).0, Err(GrantError::GENERAL_ERROR));
    for bad in [0, ARGUMENTS + LENGTH as u64 - 8, u64::MAX - 3] {
        assert_eq!(setup(&kernel, DOMID_SELF, 2, bad).0, Err(GrantError::BAD_VIRT_ADDR), "{bad:#x}");
    }
    for (dom, status, _) in OTHERS {
        assert_eq!(setup(&kernel, dom, 1, ARRAYS).0, Err(status), "{dom}");
    }
}

/// Both take exactly one argument.
#[test]
fn what_takes_one_argument_takes_no_other_number() {
    let kernel = small();
    for command in [GNTTABOP_QUERY_SIZE, GNTTABOP_SETUP_TABLE] {
        for count in [0, 2] {
            let arena = &mut Arena::new(ARGUMENTS, LENGTH);
            let answer = kernel.call(GRANT_TABLE_OP, command, count, &mut [0_u64; 4], arena);
            assert_eq!(answer, Err(Errno::EINVAL), "{command} {count}");
        }
    }
}

/// The versions are 1 and 2; the second is switched off, and then it is as if there were no such command. What it is now is
/// told in each case.
#[test]
fn only_version_1_can_be_had() {
    let kernel = small();
    for (version, answer) in [
        (1, Ok(0)),
        (2, Err(Errno::ENOSYS)),
        (0, Err(Errno::EINVAL)),
        (3, Err(Errno::EINVAL)),
        (u32::MAX, Err(Errno::EINVAL)),
    ] {
        let mut op = SetVersion { version };
        assert_eq!(kernel.grant_op(GNTTABOP_SET_VERSION, &mut op), answer, "{version}");
        assert_eq!(op.version, 1);
    }
    let mut op = GetVersion { dom: DOMID_SELF, ..Default::default() };
    assert_eq!(kernel.grant_op(GNTTABOP_GET_VERSION, &mut op), Ok(0));
    assert_eq!(op.version, 1);
    for (dom, _, error) in OTHERS {
        let mut op = GetVersion { dom, pad: 0, version: 9 };
        assert_eq!(kernel.grant_op(GNTTABOP_GET_VERSION, &mut op), Err(error), "{dom}");
        assert_eq!(op.version, 9, "nothing is written");
    }
}

/// To choose the version that it is already does nothing to the entries: after a crash the dump kernel does so.
#[test]
fn choosing_the_version_again_keeps_the_entries() {
    let kernel = small();
    let table = kernel.table();
    let page = kernel.page();
    grant(&table, GrantRef(9), 0, page.gfn(), 0);
    let mapping =
        kernel.machine.dom0().map(&kernel.guest, GrantRef(9), Access::Write).expect("it is granted");
    assert_eq!(kernel.grant_op(GNTTABOP_SET_VERSION, &mut SetVersion { version: 1 }), Ok(0));
    let place = FLAGS.get(9).expect("it is in the first page");
    assert_ne!(table.load(place) & GTF_PERMIT_ACCESS, 0);
    kernel.machine.dom0().unmap(mapping).expect("it is mapped");
}

/// Xen lets an HVM guest have some of the commands only; the others are as if they were not there, whatever the arguments.
#[test]
fn other_commands_are_unknown() {
    let kernel = small();
    let unknown = [
        GNTTABOP_DUMP_TABLE,
        GNTTABOP_TRANSFER,
        GNTTABOP_UNMAP_AND_REPLACE,
        GNTTABOP_GET_STATUS_FRAMES,
        GNTTABOP_CACHE_FLUSH,
        13,
        // A command that has been interrupted has something in its upper bits: none of these can be.
        1 << 12 | GNTTABOP_COPY,
        u64::from(u32::MAX),
    ];
    for command in unknown {
        let answer = kernel.grant_op(command, &mut [0_u64; 4]);
        assert_eq!(answer, Err(Errno::ENOSYS), "{command:#x}");
    }
    assert!(kernel.machine.audit(&kernel.guest).is_clean(), "whoever asks for what is not there is told so");
}

/// A count has 31 bits: more would be negative. What is above 32 bits is not looked at, in the count as in the command.
#[test]
fn a_count_is_not_negative() {
    let kernel = small();
    for command in [GNTTABOP_MAP_GRANT_REF, GNTTABOP_UNMAP_GRANT_REF, GNTTABOP_COPY, GNTTABOP_QUERY_SIZE] {
        for count in [0x8000_0000, 0xFFFF_FFFF] {
            let arena = &mut Arena::new(ARGUMENTS, LENGTH);
            let answer = kernel.call(GRANT_TABLE_OP, command, count, &mut [0_u64; 4], arena);
            assert_eq!(answer, Err(Errno::EINVAL), "{command} {count:#x}");
        }
    }
    for command in [GNTTABOP_MAP_GRANT_REF, GNTTABOP_UNMAP_GRANT_REF, GNTTABOP_COPY] {
        // Nothing is to be done, so that no pointer is looked at.
        let arguments = [1 << 32 | command, 0, 1 << 32, 0, 0];
        let answer = kernel.guest.call_in(&mut Arena::new(ARGUMENTS, 0), GRANT_TABLE_OP, arguments);
        assert_eq!(answer, 0, "{command}");
    }
}

/// Every command fails with `EFAULT` where its argument is not, be it only in part, and at the end of all addresses.
#[test]
fn an_argument_that_is_not_there_is_a_fault() {
    let kernel = small();
    for command in [
        GNTTABOP_MAP_GRANT_REF,
        GNTTABOP_UNMAP_GRANT_REF,
        GNTTABOP_SETUP_TABLE,
        GNTTABOP_COPY,
        GNTTABOP_QUERY_SIZE,
        GNTTABOP_SET_VERSION,
        GNTTABOP_GET_VERSION,
    ] {
        for address in [0, ARGUMENTS - 1, ARGUMENTS + LENGTH as u64 - 3, u64::MAX] {
            let arena = &mut Arena::new(ARGUMENTS, LENGTH);
            let answer = kernel.guest.call_in(arena, GRANT_TABLE_OP, [command, address, 1, 0, 0]);
            assert_eq!(Errno::check(answer), Err(Errno::EFAULT), "{command} {address:#x}");
        }
    }
}

/// The toolstack has granted the rings of the console and of the store to the control domain before the guest runs.
#[test]
fn the_first_two_entries_are_the_toolstacks() {
    let kernel = small();
    let table = kernel.table();
    let entry = |index: usize| table.read(Place::<GrantEntryV1>::new(index * 8));
    for (reference, frame) in [(0, 0xF_EFFF), (1, 0xF_EFFC)] {
        let expected = GrantEntryV1 { flags: GTF_PERMIT_ACCESS, domid: DomId(0), frame };
        assert_eq!(entry(reference), expected);
        let dom0 = kernel.machine.dom0();
        let mapping =
            dom0.map(&kernel.guest, GrantRef(u32::try_from(reference).expect("small")), Access::Write);
        dom0.write(mapping.expect("it is granted"), 0, b"ring").expect("it is mapped");
        let ring = kernel.existing(Gfn(frame.into()));
        assert_eq!(ring.load(Place::<u32>::new(0)).to_le_bytes(), *b"ring");
    }
    for reference in 2..512 {
        assert_eq!(table.load(ENTRIES.get(reference).expect("it is in the first page")), 0, "{reference}");
    }
}
