//! Returns memory to the system after a model has been loaded. Besides `simd/x86.rs` and `simd/aarch64.rs`, this is the
//! only file of `nn` with `unsafe`.
#![allow(unsafe_code)]

/// Returns free memory that the allocator retains.
///
/// While ONNX Runtime loads a network it holds the file, the weights, and the weights packed for its kernels. glibc
/// retains what is freed of these for reuse: 140 of the 270 MB that are in use after loading FaceNet, in a process that
/// goes on to decode and encode video.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn trim() {
    // SAFETY: malloc_trim takes a number and no pointer, may be called from any thread at any
    // time, and frees nothing that is in use (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators return memory by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn trim() {}
