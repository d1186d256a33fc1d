//! What the targets share: taking inputs apart, and leaving inputs to begin with.

pub mod networks;
pub mod stream;
#[path = "../../tests/common/onnx.rs"]
pub mod writer;

use std::path::PathBuf;

/// Names the folder that a target leaves its first inputs in, instead of running.
pub const SEEDS_VARIABLE: &str = "FUZZ_SEEDS";

/// Begins a target. With [`SEEDS_VARIABLE`] it writes the inputs that the project's own writers make, and ends: a fuzzer
/// that begins with nothing would take days to find a zip file.
pub fn begin(seeds: impl FnOnce() -> Vec<Vec<u8>>) {
    let variables = [
        // ONNX Runtime is not compiled for the sanitizer, and what is wrong in it is not ours to find.
        (gstmfr::nn::ENGINE_VARIABLE, "own"),
        // Plugins of the system take time to load, and none is needed.
        ("GST_REGISTRY_DISABLE", "yes"),
        ("GST_PLUGIN_SYSTEM_PATH_1_0", ""),
        ("GST_PLUGIN_PATH_1_0", ""),
    ];
    for (name, value) in variables {
        // SAFETY: no other thread has been started yet.
        unsafe { std::env::set_var(name, value) };
    }
    let Some(folder) = std::env::var_os(SEEDS_VARIABLE).map(PathBuf::from) else {
        return;
    };
    std::fs::create_dir_all(&folder).expect("a folder for the first inputs");
    for (number, seed) in seeds().into_iter().enumerate() {
        std::fs::write(folder.join(format!("{number:03}")), seed).expect("room for an input");
    }
    std::process::exit(0);
}

/// Takes an input apart from its beginning. What is missing at the end is zero.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// So many bytes, or those that are left.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.bytes(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub fn f64(&mut self) -> f64 {
        f64::from_le_bytes(self.array())
    }

    /// A byte says how long it is.
    pub fn text(&mut self) -> String {
        let length = usize::from(self.u8());
        String::from_utf8_lossy(self.bytes(length)).into_owned()
    }
}

/// Numbers that look like chance, for mutators, to which libFuzzer gives a seed.
pub struct Chance(u32);

impl Chance {
    pub fn new(seed: u32) -> Self {
        Self(seed)
    }

    /// 0 to less than `limit`; 0 where that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (((self.0 >> 8) as u64 * limit as u64) >> 24) as usize
    }
}
