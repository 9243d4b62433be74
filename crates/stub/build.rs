//! Links the stub as a static executable at its fixed high address, with nothing else in it.
fn main() {
    for arg in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,norelro",
        // No page of data shows text as well.
        "-Wl,-z,separate-code",
        "-Wl,--image-base=0x7ff000000000",
    ] {
        println!("cargo:rustc-link-arg-bins={arg}");
    }
}
