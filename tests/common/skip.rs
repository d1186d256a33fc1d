//! Reports tests that cannot run in this environment.

use std::fs::OpenOptions;
use std::io::Write;

/// Reports that the rest of a test cannot run here: on standard error, even if the test harness captures the output
/// of passing tests, and in the file named by `MFR_SKIPPED`, from which `make test` prints what was skipped.
///
/// # Panics
///
/// Panics if `MFR_NO_SKIP` is set in the environment, for computers that should have everything.
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
