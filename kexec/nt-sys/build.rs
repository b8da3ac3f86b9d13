//! With the feature `wdk`, on a Windows host, the tests are linked as the WDK wants it. Otherwise there is nothing to do.
#![forbid(unsafe_code)]

#[cfg(all(windows, feature = "wdk"))]
fn main() -> Result<(), wdk_build::ConfigError> {
    wdk_build::configure_wdk_library_build()
}

#[cfg(not(all(windows, feature = "wdk")))]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
