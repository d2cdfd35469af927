//! Whether this CPU has what the program is compiled for (`x86-64-v3`): asked by raw CPUID before anything else runs, as the compiler takes
//! the answer for granted everywhere else.

use std::arch::x86_64::CpuidResult;

/// A register of CPUID, and the bits of it that x86-64-v3 names.
const LEAF_ONE_ECX: &[(u32, &str)] = &[(12, "FMA"), (22, "MOVBE"), (27, "OSXSAVE"), (28, "AVX"), (29, "F16C")];
const LEAF_SEVEN_EBX: &[(u32, &str)] = &[(3, "BMI1"), (5, "AVX2"), (8, "BMI2")];
const EXTENDED_ECX: &[(u32, &str)] = &[(5, "LZCNT")];
/// XMM and YMM state, saved by the operating system.
const XCR0_AVX: u32 = 0b110;

/// The first feature that is missing; `None`: the program can run.
pub fn missing_feature() -> Option<&'static str> {
    let lacking = |register: u32, wanted: &[(u32, &'static str)]| {
        wanted.iter().find(|(bit, _)| register & (1 << bit) == 0).map(|(_, name)| *name)
    };
    if let Some(name) = lacking(cpuid(1).ecx, LEAF_ONE_ECX) {
        return Some(name);
    }
    // OSXSAVE is there, so XGETBV may be used.
    if xcr0() & XCR0_AVX != XCR0_AVX {
        return Some("AVX (switched off by the operating system or hypervisor)");
    }
    if cpuid(0).eax < 7 {
        return Some("AVX2");
    }
    if let Some(name) = lacking(cpuid(7).ebx, LEAF_SEVEN_EBX) {
        return Some(name);
    }
    if cpuid(0x8000_0000).eax < 0x8000_0001 {
        return Some("LZCNT");
    }
    lacking(cpuid(0x8000_0001).ecx, EXTENDED_ECX)
}

fn cpuid(leaf: u32) -> CpuidResult {
    std::arch::x86_64::__cpuid_count(leaf, 0)
}

fn xcr0() -> u32 {
    let low: u32;
    // SAFETY: reads register 0, which exists wherever OSXSAVE is set, as the caller has checked; EDX is clobbered and said so.
    unsafe { std::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _, options(nomem, nostack)) };
    low
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_cpu_that_runs_this_test_is_good_enough() {
        assert_eq!(super::missing_feature(), None);
    }
}
