//! What must not compile, for any compiler: the programs of `tests/ui`, which are also held against the messages
//! of one compiler version there.
#![forbid(unsafe_code)]

macro_rules! must_not_compile {
    ($($rule:ident)*) => {
        $(
            #[expect(non_camel_case_types, dead_code, reason = "the name of the program")]
            #[doc = concat!("```compile_fail\n", include_str!(concat!("../tests/ui/", stringify!($rule), ".rs")), "\n```")]
            struct $rule;
        )*
    };
}

must_not_compile! {
    blocks_under_a_guard
    blocks_while_raised
    borrow_in_a_task
    closure_not_send
    epilogue_keeps_token
    future_not_send
    mutex_not_shared
    output_not_send
    task_too_large
    token_copied
    token_kept
    token_made_up
    token_on_send_only
    token_passed_on
    token_returned
    token_sent
}
