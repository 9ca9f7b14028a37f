//! Has the relocations of `weft` packed (`DT_RELR`): those of a position-independent program of this size are two megabytes
//! otherwise, which are read at every start and stay resident. The loader must know them, so it is done only where the
//! program is built for the machine that builds it, whose C library can be asked.

use std::env;
use std::process::Command;

/// The first version of the GNU C library that loads packed relocations.
const FIRST: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let native = env::var_os("HOST") == env::var_os("TARGET");
    if native && c_library().is_some_and(|version| version >= FIRST) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Version of this machine's GNU C library; none if it has another.
fn c_library() -> Option<(u32, u32)> {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        return None;
    }
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?.stdout;
    let told = String::from_utf8(told).ok()?;
    let (major, minor) = told.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
