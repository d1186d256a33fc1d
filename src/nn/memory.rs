//! Gives memory back to the system after a model has been loaded. Beside `simd/x86.rs` and `simd/aarch64.rs` the only file with `unsafe`.
#![allow(unsafe_code)]

/// Returns what the allocator holds without need.
///
/// While ONNX Runtime reads a network it holds the file, the weights and the weights in the order
/// of its kernels. glibc keeps what it freed of these for later: 140 of the 270 MB that FaceNet
/// leaves behind, in a process that goes on to decode and encode video.
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
