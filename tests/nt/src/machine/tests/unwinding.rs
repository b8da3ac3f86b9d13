//! What the kernel would find on a stack.
#![forbid(unsafe_code)]

use super::{asked, finished, start_asking};
use crate::machine::{Preempt, Resume, UnwindError, fixture::Fixture};

#[test]
fn every_shape_of_frame_is_unwound() {
    let fixture = Fixture::load(Preempt::Calls);
    let mut call = fixture.call("outermost", &[]);
    start_asking(&mut call);
    let returns = [
        "deepest.return",
        "large.far.return",
        "framed.second.return",
        "large.near.return",
        "framed.first.return",
        "outermost.return",
    ];
    assert_eq!(call.frames().expect("all is known"), returns.map(|name| fixture.address(name)));
    finished(call.resume(Resume::Return(0), 0));
    let mut call = fixture.call("keeps_xmm", &[]);
    let arguments = start_asking(&mut call);
    assert_eq!(call.frames().expect("all is known"), [arguments.caller()]);
}

#[test]
fn a_call_back_is_unwound_by_itself() {
    let fixture = Fixture::load(Preempt::Calls);
    let mut call = fixture.call("asks", &[]);
    start_asking(&mut call);
    let outer = call.frames().expect("one frame");
    asked(call.resume(Resume::Call { function: fixture.address("after"), arguments: [0; 4] }, 0));
    let inner = call.frames().expect("one frame");
    assert_eq!((outer.len(), inner.len()), (1, 1));
    assert_ne!(outer, inner);
}

#[test]
fn a_function_may_end_with_a_call() {
    let fixture = Fixture::load(Preempt::Calls);
    let mut call = fixture.call("calls_last", &[]);
    start_asking(&mut call);
    assert_eq!(call.frames().expect("not that of the next function"), [fixture.address("after")]);
}

#[test]
fn a_frame_without_information_is_an_error() {
    let fixture = Fixture::load(Preempt::Calls);
    let mut call = fixture.call("asks_without_information", &[]);
    let arguments = start_asking(&mut call);
    let place = fixture.image.place(arguments.caller());
    assert_eq!(call.frames(), Err(UnwindError::NoInformation { place }));
}

#[test]
fn information_that_lies_is_an_error() {
    let fixture = Fixture::load(Preempt::Calls);
    let mut call = fixture.call("lies", &[]);
    let arguments = start_asking(&mut call);
    let place = fixture.image.place(arguments.caller());
    let error = call.frames().expect_err("the frame is larger than it says");
    assert!(matches!(&error, UnwindError::Astray { place: found, .. } if *found == place), "{error}");
    let mut call = fixture.call("exaggerates", &[]);
    let place = fixture.image.place(start_asking(&mut call).caller());
    let rsp = call.registers().rsp + 8 + 4088;
    assert_eq!(call.frames(), Err(UnwindError::OffTheStack { place, rsp }));
}
