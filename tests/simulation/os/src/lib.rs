//! Randomness of the operating system for the simulation: on a thread that has a seed, the same again for the same seed.
//!
//! The order in which `select!` looks at what is ready, and in which hash maps are walked, hangs on what the standard library is given by
//! `getrandom(2)`, and so do pauses between attempts. This crate has the symbols, so that the linker takes them in place of the C library's: only in a program that names this
//! crate. It is a crate of its own because it takes `unsafe`, which the program's own package forbids.

use std::cell::Cell;
use std::ffi::{c_char, c_long, c_uint, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on, what this thread gets as randomness follows from `seed`.
pub fn seed(seed: u64) {
    STATE.set(Some(seed));
}

unsafe extern "C" {
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

type Syscall = unsafe extern "C" fn(c_long, ...) -> c_long;

/// The C library's own.
fn c_syscall() -> Syscall {
    static FOUND: AtomicUsize = AtomicUsize::new(0);
    /// Libraries after the program itself.
    const NEXT: *mut c_void = usize::MAX as *mut c_void;
    let mut found = FOUND.load(Ordering::Relaxed);
    if found == 0 {
        // SAFETY: the name ends with a zero.
        found = unsafe { dlsym(NEXT, c"syscall".as_ptr()) } as usize;
        FOUND.store(found, Ordering::Relaxed);
    }
    // SAFETY: the C library has a function of this name and kind; a program without it would not have been started.
    unsafe { std::mem::transmute::<usize, Syscall>(found) }
}

/// As syscall(2) says. The library under the program's cryptography asks for randomness by it.
///
/// # Safety
/// As with the call that the number stands for.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    one: c_long,
    two: c_long,
    three: c_long,
    four: c_long,
    five: c_long,
    six: c_long,
) -> c_long {
    if number == GETRANDOM {
        // SAFETY: the caller's promise.
        return unsafe { getrandom(one as *mut c_void, two as usize, three as c_uint) } as c_long;
    }
    // SAFETY: the caller's promise. Arguments that the call does not take are not looked at.
    unsafe { c_syscall()(number, one, two, three, four, five, six) }
}

#[cfg(target_arch = "x86_64")]
const GETRANDOM: c_long = 318;
#[cfg(not(target_arch = "x86_64"))]
const GETRANDOM: c_long = 278;

/// As getrandom(2) says.
///
/// # Safety
/// `buffer` has room for `length` bytes.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    let Ok(Some(mut state)) = STATE.try_with(Cell::get) else {
        // SAFETY: the caller's promise is what the kernel asks for.
        return unsafe { c_syscall()(GETRANDOM, buffer, length, flags) } as isize;
    };
    for at in 0..length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // SAFETY: `at` is below `length`.
        unsafe { buffer.cast::<u8>().add(at).write((state >> 56) as u8) };
    }
    STATE.set(Some(state));
    isize::try_from(length).unwrap_or(-1)
}
