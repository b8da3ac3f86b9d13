//! On a Windows host, `wdk-build` configures the link. On others `cargo xtask dist` links, and there is nothing to do.
#![forbid(unsafe_code)]

#[cfg(windows)]
fn main() -> Result<(), wdk_build::ConfigError> {
    wdk_build::configure_wdk_binary_build()
}

#[cfg(not(windows))]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
