//! How tests report that they cannot run here.

use std::fs::OpenOptions;
use std::io::Write;

/// Reports that the rest of a test cannot run here, on standard error also where the test harness captures the output of tests
/// that pass, and in the file named by `MFR_SKIPPED`, from which `make test` prints what was left out.
///
/// # Panics
///
/// With `MFR_NO_SKIP` in the environment, for machines that are to have everything.
pub fn skip(reason: impl std::fmt::Display) {
    assert!(
        std::env::var_os("MFR_NO_SKIP").is_none(),
        "skipped although MFR_NO_SKIP is set: {reason}"
    );
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
    if let Some(path) = std::env::var_os("MFR_SKIPPED") {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| writeln!(file, "{reason}"));
    }
}
