//! Programs for the kernel's packet filter, as far as filters of system calls need it. Source: Linux
//! `Documentation/networking/filter.rst`, `include/uapi/linux/bpf_common.h`, `include/uapi/linux/seccomp.h`.

use libc::sock_filter;

/// `BPF_LD | BPF_W | BPF_ABS`
const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JEQ | BPF_K`
const JUMP_EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`
const JUMP_GREATER: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
/// `BPF_JMP | BPF_JSET | BPF_K`
const JUMP_SET: u16 = 0x45;
/// `BPF_ALU | BPF_AND | BPF_K`
const AND: u16 = 0x54;
/// `BPF_RET | BPF_K`
const RETURN: u16 = 0x06;

/// Offset of the number in `struct seccomp_data`.
const NUMBER: u32 = 0;
/// Offset of the architecture.
const ARCHITECTURE: u32 = 4;
/// Offset of the lower half of the first argument on a little-endian machine.
const FIRST_ARGUMENT: u32 = 16;

/// `AUDIT_ARCH_X86_64`
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
/// `AUDIT_ARCH_AARCH64`
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;

/// The outcome of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The call is made.
    Allow,
    /// It fails with this number.
    Errno(i32),
}

impl Verdict {
    fn value(self) -> u32 {
        match self {
            Verdict::Allow => 0x7fff_0000,
            Verdict::Errno(number) => 0x0005_0000 | number.cast_unsigned() & 0xffff,
        }
    }
}

/// A condition on a call: the lower half of an argument has a value, in the bits of a mask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condition {
    /// The number of the argument; the first is 0.
    pub(super) argument: u8,
    pub(super) mask: u32,
    pub(super) value: u32,
}

impl Condition {
    /// The argument has this value.
    pub(super) const fn is(argument: u8, value: u32) -> Self {
        Condition { argument, mask: u32::MAX, value }
    }
}

/// A filter in the making.
#[derive(Debug, Default)]
pub(super) struct Program(Vec<sock_filter>);

impl Program {
    /// A filter of calls in the machine's own numbering; those in another one get `foreign`.
    pub(super) fn new(foreign: Verdict) -> Self {
        let mut program = Program::default();
        program.push(LOAD, ARCHITECTURE, 0, 0);
        program.push(JUMP_EQUAL, NATIVE, 1, 0);
        program.push(RETURN, foreign.value(), 0, 0);
        program.push(LOAD, NUMBER, 0, 0);
        program
    }

    /// Gives the calls with these `numbers`, in any order, `verdict`. Others go on.
    pub(super) fn calls(&mut self, numbers: impl IntoIterator<Item = u32>, verdict: Verdict) {
        for (first, last) in ranges(numbers) {
            self.push(JUMP_GREATER_OR_EQUAL, first, 0, 2);
            self.push(JUMP_GREATER, last, 1, 0);
            self.push(RETURN, verdict.value(), 0, 0);
        }
    }

    /// Gives call `number` `verdict` if its first argument has one of `bits`, and allows it otherwise.
    pub(super) fn call_with_bits(&mut self, number: u32, bits: u32, verdict: Verdict) {
        self.push(JUMP_EQUAL, number, 0, 4);
        self.push(LOAD, FIRST_ARGUMENT, 0, 0);
        self.push(JUMP_SET, bits, 0, 1);
        self.push(RETURN, verdict.value(), 0, 0);
        self.push(RETURN, Verdict::Allow.value(), 0, 0);
    }

    /// Allows call `number` if the lower half of its first argument is one of `values`, and gives it `verdict` otherwise.
    pub(super) fn call_unless(&mut self, number: u32, values: &[u32], verdict: Verdict) {
        let count = values.len() as u8;
        self.push(JUMP_EQUAL, number, 0, count + 3);
        self.push(LOAD, FIRST_ARGUMENT, 0, 0);
        for (i, value) in (0..count).zip(values) {
            self.push(JUMP_EQUAL, *value, count - i, 0);
        }
        self.push(RETURN, verdict.value(), 0, 0);
        self.push(RETURN, Verdict::Allow.value(), 0, 0);
    }

    /// Allows call `number` if every condition of one of `alternatives` holds, and gives it `verdict` otherwise.
    pub(super) fn call_if(&mut self, number: u32, alternatives: &[&[Condition]], verdict: Verdict) {
        // Three instructions for each condition, and one for the outcome.
        let len = |conditions: &[Condition]| 3 * conditions.len() as u8 + 1;
        let all: u8 = alternatives.iter().map(|conditions| len(conditions)).sum();
        self.push(JUMP_EQUAL, number, 0, all + 1);
        for conditions in alternatives {
            let mut left = len(conditions);
            for Condition { argument, mask, value } in *conditions {
                left -= 3;
                self.push(LOAD, FIRST_ARGUMENT + 8 * u32::from(*argument), 0, 0);
                self.push(AND, *mask, 0, 0);
                self.push(JUMP_EQUAL, *value, 0, left);
            }
            self.push(RETURN, Verdict::Allow.value(), 0, 0);
        }
        self.push(RETURN, verdict.value(), 0, 0);
    }

    /// Ends the filter: every other call gets `verdict`.
    pub(super) fn finish(mut self, verdict: Verdict) -> Vec<sock_filter> {
        self.push(RETURN, verdict.value(), 0, 0);
        self.0
    }

    fn push(&mut self, code: u16, k: u32, jt: u8, jf: u8) {
        self.0.push(sock_filter { code, jt, jf, k });
    }
}

/// Returns the ranges of consecutive numbers, from the lowest on.
fn ranges(numbers: impl IntoIterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut numbers: Vec<u32> = numbers.into_iter().collect();
    numbers.sort_unstable();
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if number <= *last + 1 => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Runs a filter as the kernel does, on a call with this number and first argument.
    pub(in super::super) fn run(
        filter: &[sock_filter],
        architecture: u32,
        number: u32,
        argument: u32,
    ) -> u32 {
        run_with(filter, architecture, number, &[argument])
    }

    /// The same, with these first arguments; the others are 0.
    pub(in super::super) fn run_with(
        filter: &[sock_filter],
        architecture: u32,
        number: u32,
        arguments: &[u32],
    ) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = filter[at];
            let holds = match code {
                LOAD => {
                    accumulator = match k {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        FIRST_ARGUMENT.. if k % 8 == 0 => {
                            arguments.get(((k - FIRST_ARGUMENT) / 8) as usize).copied().unwrap_or(0)
                        }
                        _ => panic!("load of {k}"),
                    };
                    at += 1;
                    continue;
                }
                AND => {
                    accumulator &= k;
                    at += 1;
                    continue;
                }
                RETURN => return k,
                JUMP_EQUAL => accumulator == k,
                JUMP_GREATER => accumulator > k,
                JUMP_GREATER_OR_EQUAL => accumulator >= k,
                JUMP_SET => accumulator & k != 0,
                _ => panic!("code {code}"),
            };
            at += 1 + usize::from(if holds { jt } else { jf });
        }
    }

    /// The architecture that the filters are for.
    pub(in super::super) const HERE: u32 = NATIVE;

    #[test]
    fn numbers_become_ranges() {
        assert_eq!(ranges([5, 1, 2, 3, 3, 9, 8]), [(1, 3), (5, 5), (8, 9)]);
        assert_eq!(ranges([]), []);
    }

    #[test]
    fn program_decides_by_number_bits_and_values() {
        let mut program = Program::new(Verdict::Errno(38));
        program.calls([1, 2, 3, 7], Verdict::Errno(1));
        program.call_with_bits(10, 0b100, Verdict::Errno(1));
        program.call_unless(11, &[2, 4], Verdict::Errno(97));
        let filter = program.finish(Verdict::Allow);
        const ALLOWED: u32 = 0x7fff_0000;
        for (number, argument, expected) in [
            (0, 0, ALLOWED),
            (1, 0, 0x5_0001),
            (3, 0, 0x5_0001),
            (4, 0, ALLOWED),
            (7, 0, 0x5_0001),
            (8, 0, ALLOWED),
            (10, 0b011, ALLOWED),
            (10, 0b110, 0x5_0001),
            (11, 2, ALLOWED),
            (11, 3, 0x5_0061),
            (11, 4, ALLOWED),
            (12, 3, ALLOWED),
        ] {
            assert_eq!(run(&filter, HERE, number, argument), expected, "{number} {argument}");
        }
        assert_eq!(run(&filter, HERE ^ 1, 0, 0), 0x5_0026);
    }

    #[test]
    fn alternatives_are_sets_of_conditions() {
        let mut program = Program::new(Verdict::Errno(38));
        let low = Condition { argument: 1, mask: 0xf, value: 2 };
        let alternatives: [&[Condition]; 2] =
            [&[Condition::is(0, 2), low], &[Condition::is(0, 16), Condition::is(2, 0)]];
        program.call_if(10, &alternatives, Verdict::Errno(1));
        let filter = program.finish(Verdict::Errno(2));
        for (arguments, expected) in [
            ([2, 2, 9], 0x7fff_0000),
            ([2, 0x80802, 9], 0x7fff_0000),
            ([2, 1, 0], 0x5_0001),
            ([16, 1, 0], 0x7fff_0000),
            ([16, 2, 1], 0x5_0001),
            ([3, 2, 0], 0x5_0001),
        ] {
            assert_eq!(run_with(&filter, HERE, 10, &arguments), expected, "{arguments:?}");
        }
        assert_eq!(run(&filter, HERE, 11, 2), 0x5_0002);
    }
}
