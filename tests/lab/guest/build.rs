//! Where the linker puts what, on a machine without an operating system.
#![forbid(unsafe_code)]

use std::{env, error::Error};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=link.ld");
    if env::var("CARGO_CFG_TARGET_OS")? == "none" {
        println!("cargo::rustc-link-arg-bins=-T{}/link.ld", env::var("CARGO_MANIFEST_DIR")?);
        // The addresses are those at which it runs, and nobody is there to relocate it.
        println!("cargo::rustc-link-arg-bins=--no-pie");
        println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
    }
    Ok(())
}
