//! Chooses the engine of a network from one table, by network, CPU and whether ONNX Runtime is installed.

use super::role::Role;
use super::runtime::{self, Device, ENGINE_VARIABLE, RuntimeError, SessionOptions};
use super::simd::{self, CPU_VARIABLE, Isa};

/// An engine, and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    kind: Kind,
    pub reason: &'static str,
}

impl Chosen {
    pub fn is_own(&self) -> bool {
        self.kind == Kind::Own
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Own,
    Runtime,
}

/// The CPUs that a rule applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cpu {
    Any,
    /// With AMX-INT8, which ONNX Runtime uses and our kernels do not.
    Amx,
    /// Without any SIMD instruction set that our kernels support.
    Scalar,
}

/// A row of the table.
struct Rule {
    networks: &'static [Role],
    cpu: Cpu,
    /// Whether the rule applies only where ONNX Runtime is installed, or only where it is not; `None` for both.
    has_runtime: Option<bool>,
    kind: Kind,
    reason: &'static str,
}

/// The first rule that matches applies.
const RULES: [Rule; 4] = [
    Rule {
        networks: &[Role::FaceNet],
        cpu: Cpu::Amx,
        has_runtime: Some(true),
        kind: Kind::Runtime,
        reason: "with AMX, ONNX Runtime took 11 to 17 ms a face in a pipeline, our kernels 16 to 19 (Sapphire Rapids)",
    },
    Rule {
        networks: &[Role::FaceNet],
        cpu: Cpu::Scalar,
        has_runtime: Some(true),
        kind: Kind::Runtime,
        reason: "without AVX2 or NEON our kernels are plain loops, and ONNX Runtime has vectors for such CPUs (not measured)",
    },
    Rule {
        networks: &[Role::FaceNet],
        cpu: Cpu::Scalar,
        has_runtime: Some(false),
        kind: Kind::Own,
        reason: "our scalar kernels run on every CPU, and ONNX Runtime, which is preferred on this one, is not installed",
    },
    Rule {
        networks: &Role::ALL,
        cpu: Cpu::Any,
        has_runtime: None,
        kind: Kind::Own,
        reason: "our kernels take no longer than ONNX Runtime and need no library (docs/performance.md)",
    },
];

/// Constraints on the engine from the environment variables, the device and the CPU.
pub struct Wanted {
    role: Role,
    isa: Isa,
    cpu: Cpu,
    forced: Option<Chosen>,
}

impl Wanted {
    pub fn new(role: Role, options: &SessionOptions) -> Result<Self, RuntimeError> {
        let isa = capped_isa()?;
        let forced = match forced_engine()? {
            Some(Kind::Own) if options.device != Device::Cpu => {
                return Err(RuntimeError::Device {
                    device: options.device.to_string(),
                    reason: format!(
                        "{ENGINE_VARIABLE} is \"own\", and our kernels run on the CPU alone"
                    ),
                });
            }
            Some(kind) => Some(Chosen {
                kind,
                reason: "MFR_ENGINE asks for it",
            }),
            None if options.device != Device::Cpu => Some(Chosen {
                kind: Kind::Runtime,
                reason: "our kernels run on the CPU alone",
            }),
            None => None,
        };
        Ok(Self {
            role,
            isa,
            cpu: cpu(),
            forced,
        })
    }

    /// The instruction set of our kernels.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Chooses the engine; `is_supported` states whether our kernels can run the network.
    pub fn choose(self, is_supported: bool) -> Chosen {
        match self.forced {
            Some(chosen) => chosen,
            None if !is_supported => Chosen {
                kind: Kind::Runtime,
                reason: "our kernels cannot run it exactly",
            },
            None => rule(self.role, self.cpu, || runtime::library().is_ok()),
        }
    }
}

/// Looks up the table. `has_runtime` is called only for a rule that depends on it, because it searches folders.
fn rule(role: Role, cpu: Cpu, has_runtime: impl Fn() -> bool) -> Chosen {
    let fits = |rule: &&Rule| {
        rule.networks.contains(&role)
            && (rule.cpu == Cpu::Any || rule.cpu == cpu)
            && rule
                .has_runtime
                .is_none_or(|needed| needed == has_runtime())
    };
    // The last rule matches every network and CPU.
    let rule = RULES.iter().find(fits).unwrap_or(&RULES[RULES.len() - 1]);
    Chosen {
        kind: rule.kind,
        reason: rule.reason,
    }
}

/// Class of the CPU itself, whatever instruction set our kernels are capped to.
fn cpu() -> Cpu {
    match Isa::best() {
        Isa::Scalar => Cpu::Scalar,
        _ if simd::has_amx() => Cpu::Amx,
        _ => Cpu::Any,
    }
}

fn variable(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?;
    Some(value.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
}

fn capped_isa() -> Result<Isa, RuntimeError> {
    let Some(cap) = variable(CPU_VARIABLE) else {
        return Ok(Isa::best());
    };
    Isa::capped(&cap).ok_or_else(|| RuntimeError::Variable {
        variable: CPU_VARIABLE,
        value: cap,
        expected: format!("one of {}", Isa::NAMES.join(", ")),
    })
}

fn forced_engine() -> Result<Option<Kind>, RuntimeError> {
    match variable(ENGINE_VARIABLE).as_deref() {
        None => Ok(None),
        Some("own") => Ok(Some(Kind::Own)),
        Some("onnxruntime") => Ok(Some(Kind::Runtime)),
        Some(other) => Err(RuntimeError::Variable {
            variable: ENGINE_VARIABLE,
            value: other.to_owned(),
            expected: "own or onnxruntime".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_amx_facenet_is_left_to_onnx_runtime_where_that_is_installed() {
        assert!(!rule(Role::FaceNet, Cpu::Amx, || true).is_own());
        assert!(rule(Role::FaceNet, Cpu::Amx, || false).is_own());
        assert!(rule(Role::ONet, Cpu::Amx, || true).is_own());
    }

    #[test]
    fn without_onnx_runtime_our_kernels_run_every_network_on_every_cpu() {
        for cpu in [Cpu::Any, Cpu::Amx, Cpu::Scalar] {
            assert!(
                Role::ALL
                    .iter()
                    .all(|&role| rule(role, cpu, || false).is_own())
            );
        }
        assert!(!rule(Role::FaceNet, Cpu::Scalar, || true).is_own());
    }
}
