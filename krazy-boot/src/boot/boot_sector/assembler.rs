//! The source of the boot sector. 16-bit real mode, loaded and started at 0000:7C00 with the drive in DL.

mod data;

use iced_x86::code_asm::*;
use iced_x86::{Code, IcedError, Instruction, MemoryOperand};

use self::data::{Data, MESSAGE};
use super::CHUNK_SECTORS;
use crate::boot::load_table::{
    self, COUNT_OFFSET, ENTRIES_OFFSET, STACK_OFFSET, START_OFFSET, TABLE_SECTORS,
};
use crate::disk::layout::{SLOT_AREA_LEN, StateSectors, area_of_slot};
use crate::disk::selector::{self, CONFIRMED_OFFSET, TRIAL_OFFSET};
use crate::disk::slot::Slot;

const ORIGIN: u64 = 0x7c00;
const TABLE: u64 = 0x600;
const SELECTOR: u64 = 0xe00;
const BUFFER: i32 = 0x8000;

const TRIAL: u64 = SELECTOR + TRIAL_OFFSET as u64;
/// The slot being loaded. Overwrites the candidate, in memory and after the selector was written.
const CURRENT: u64 = TRIAL + 1;
/// Tries left for a transfer; between the selector and the stack.
const TRIES: u64 = 0x1000;
const MAX_TRIES: i32 = 5;
/// The firmware's number of the boot disk, which is the first word pushed.
const DRIVE: u64 = ORIGIN - 2;

const EXTENDED_READ: i32 = 0x4200;
const EXTENDED_WRITE: i32 = 0x4300;
/// INT 15h function 86h waits for CX × 65536 µs: 5 s.
const WAIT_BEFORE_RESET: i32 = 5_000_000 >> 16;
/// Assembles code and data of the boot sector.
pub(super) fn assemble() -> Result<Vec<u8>, IcedError> {
    // 16-bit memory operands take no labels: the first pass finds the addresses for the second. Both use values
    // that need 16 bits, so that the lengths agree.
    let (_, data) = pass(Data::at(ORIGIN))?;
    Ok(pass(data)?.0)
}

/// Routines that more than one step calls or jumps to.
struct Routines {
    /// Transfers sectors.
    disk: CodeLabel,
    /// Prints AL.
    put_character: CodeLabel,
    /// Prints the message and AL.
    report: CodeLabel,
    /// Boots slot AL.
    boot_slot: CodeLabel,
    /// Reports that the current slot cannot be loaded, for the reason AL.
    fail: CodeLabel,
    /// Waits and resets the machine.
    wait: CodeLabel,
}

/// Assembles the steps in the order in which they run.
fn pass(data: Data) -> Result<(Vec<u8>, Data), IcedError> {
    let mut assembler = CodeAssembler::new(16)?;
    let a = &mut assembler;
    let mut routines = Routines {
        disk: a.create_label(),
        put_character: a.create_label(),
        report: a.create_label(),
        boot_slot: a.create_label(),
        fail: a.create_label(),
        wait: a.create_label(),
    };
    let r = &mut routines;

    set_up_segments_and_stack(a)?;
    open_a20_gate(a)?;
    require_disk_extensions(a, r)?;
    read_selector(a, r)?;
    consume_trial(a, r)?;
    load_slot(a, r)?;
    copy_entries(a, r, data)?;
    jump_to_kernel(a)?;
    fall_back_or_reset(a, r, data)?;
    report_routine(a, r, data)?;
    put_character_routine(a, r)?;
    disk_routine(a, r)?;

    let mut code = a.assemble(ORIGIN)?;
    let data = Data::append(&mut code, ORIGIN);
    Ok((code, data))
}

/// Sets segments and stack, and keeps the firmware's drive number in DL at [`DRIVE`].
fn set_up_segments_and_stack(a: &mut CodeAssembler) -> Result<(), IcedError> {
    // CS may be anything that means 7C00: all jumps are relative. No interrupt may come before SS and SP are both set.
    a.cli()?;
    a.xor(ax, ax)?;
    a.mov(ss, ax)?;
    a.mov(sp, ORIGIN as i32)?;
    a.mov(ds, ax)?;
    a.sti()?;
    // The firmware may leave the direction flag set; lodsb and movsd must count up.
    a.cld()?;
    a.push(dx)
}

/// Opens the A20 gate: by the firmware, or by the chipset if the firmware has no function for it. With the gate closed,
/// bit 20 of every address is 0, and the kernel at 1 MiB would land on the interrupt table.
fn open_a20_gate(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut open = a.create_label();
    a.mov(ax, 0x2401)?;
    a.int(0x15)?;
    a.jnc(open)?;
    a.in_(al, 0x92)?;
    a.or(al, 2)?;
    // Bit 0 would reset the machine.
    a.and(al, 0xfe)?;
    a.out(0x92, al)?;
    a.set_label(&mut open)
}

/// Checks for the INT 13h extensions. The functions before them address at most 8 GiB, by cylinder, head and sector.
fn require_disk_extensions(a: &mut CodeAssembler, r: &mut Routines) -> Result<(), IcedError> {
    let mut missing = a.create_label();
    let mut present = a.create_label();
    a.mov(dl, byte_ptr(DRIVE))?;
    a.mov(bx, 0x55aa)?;
    a.mov(ah, 0x41)?;
    a.int(0x13)?;
    a.jc(missing)?;
    a.cmp(bx, 0xaa55)?;
    a.jne(missing)?;
    // Bit 0: functions 42h and 43h.
    a.shr(cx, 1)?;
    a.jc(present)?;
    a.set_label(&mut missing)?;
    a.mov(al, i32::from(b'E'))?;
    a.call(r.report)?;
    a.jmp(r.wait)?;
    a.set_label(&mut present)
}

/// Reads the selector to [`SELECTOR`], which SI points to from here on: the primary copy, else the spare one, else a
/// selector that confirms slot A, the only slot that a new image has.
fn read_selector(a: &mut CodeAssembler, r: &mut Routines) -> Result<(), IcedError> {
    let mut copy = a.create_label();
    let mut invalid = a.create_label();
    let mut selected = a.create_label();
    let StateSectors { selector, spare, .. } = StateSectors::CURRENT;
    // The loop subtracts the distance of the copies until the sector is negative.
    let distance = selector - spare;
    assert!(spare < distance);
    a.mov(si, SELECTOR as i32)?;
    a.mov(cx, 1)?;
    a.xor(ebx, ebx)?;
    a.mov(bx, selector.0 as i32)?;
    a.set_label(&mut copy)?;
    a.mov(ax, EXTENDED_READ)?;
    a.call(r.disk)?;
    a.jc(invalid)?;
    a.cmp(dword_ptr(si), u32::from_le_bytes(selector::MAGIC))?;
    a.jne(invalid)?;
    a.cmp(byte_ptr(si + CONFIRMED_OFFSET as i32), 1)?;
    a.jbe(selected)?;
    a.set_label(&mut invalid)?;
    a.sub(bx, distance.0 as i32)?;
    a.jns(copy)?;
    // Confirmed: 0, trial: 0xff.
    a.mov(word_ptr(si + CONFIRMED_OFFSET as i32), 0xff00)?;
    a.set_label(&mut selected)
}

/// Leaves in AL the slot to boot. A trial is cleared on the disk first, and boots only if a second read returns
/// 0xff: a disk that ignores the write would otherwise start a broken slot at every reset.
fn consume_trial(a: &mut CodeAssembler, r: &mut Routines) -> Result<(), IcedError> {
    let mut no_trial = a.create_label();
    let mut cleared = a.create_label();
    a.mov(al, byte_ptr(si + TRIAL_OFFSET as i32))?;
    a.cmp(al, 1)?;
    a.ja(no_trial)?;
    // AX is needed for the function's number and the trial byte is about to be cleared, so the slot waits on the stack.
    a.push(ax)?;
    a.mov(byte_ptr(si + TRIAL_OFFSET as i32), 0xff)?;
    a.mov(ax, EXTENDED_WRITE)?;
    a.call(r.disk)?;
    a.jc(cleared)?;
    a.mov(ah, EXTENDED_READ >> 8)?;
    a.call(r.disk)?;
    a.jc(cleared)?;
    // Anything but 0xff is below it and sets the carry flag, like an error.
    a.cmp(byte_ptr(si + TRIAL_OFFSET as i32), 0xff)?;
    a.set_label(&mut cleared)?;
    a.pop(ax)?;
    a.jnc(r.boot_slot)?;
    a.set_label(&mut no_trial)?;
    a.mov(al, byte_ptr(si + CONFIRMED_OFFSET as i32))
}

/// Prints the letter of slot AL and reads its load table to [`TABLE`].
fn load_slot(a: &mut CodeAssembler, r: &mut Routines) -> Result<(), IcedError> {
    a.set_label(&mut r.boot_slot)?;
    a.mov(byte_ptr(CURRENT), al)?;
    a.movzx(ebx, al)?;
    a.add(al, i32::from(b'A'))?;
    a.call(r.put_character)?;
    // The first sector of the slot's area: that of slot A, plus the slot's number times the length of an area.
    a.imul_3(bx, bx, SLOT_AREA_LEN.0 as i32)?;
    a.add(bx, area_of_slot(Slot::A).start.0 as i32)?;
    a.mov(si, TABLE as i32)?;
    a.mov(cx, TABLE_SECTORS.0 as i32)?;
    // Function 42h ignores AL. It holds the letter to report if the read fails.
    a.mov(ax, EXTENDED_READ | i32::from(b'R'))?;
    a.call(r.disk)?;
    a.jc(r.fail)?;
    a.mov(al, i32::from(b'T'))?;
    a.cmp(dword_ptr(si), u32::from_le_bytes(load_table::MAGIC))?;
    a.jne(r.fail)
}

/// Copies every entry of the table, in chunks through [`BUFFER`]: firmware reads into the first MiB only, and the kernel
/// belongs above it. EDI is the destination, EBX the first sector, EBP the number of sectors left.
fn copy_entries(a: &mut CodeAssembler, r: &mut Routines, data: Data) -> Result<(), IcedError> {
    let mut entry = a.create_label();
    let mut chunk = a.create_label();
    let mut whole_chunk = a.create_label();
    a.add(si, ENTRIES_OFFSET as i32)?;
    a.set_label(&mut entry)?;
    for register in [edi, ebx, ebp] {
        a.lodsd()?;
        a.xchg(register, eax)?;
    }
    a.set_label(&mut chunk)?;
    push_dword(a, CHUNK_SECTORS)?;
    a.pop(ecx)?;
    a.cmp(ebp, ecx)?;
    a.jae(whole_chunk)?;
    a.mov(cx, bp)?;
    a.set_label(&mut whole_chunk)?;
    a.push(si)?;
    a.mov(esi, BUFFER)?;
    a.mov(ax, EXTENDED_READ | i32::from(b'R'))?;
    a.call(r.disk)?;
    a.jc(r.fail)?;
    a.push(cx)?;
    move_chunk_up(a, data)?;
    a.pop(cx)?;
    a.pop(si)?;
    a.add(ebx, ecx)?;
    a.sub(ebp, ecx)?;
    a.jnz(chunk)?;
    a.dec(word_ptr(TABLE + COUNT_OFFSET as u64))?;
    a.jnz(entry)
}

/// Moves CX sectors from ESI to EDI, anywhere in 4 GiB: ES becomes a segment of 4 GiB from address 0, which only protected
/// mode can load ("unreal mode"). The firmware may have changed the GDT and the segment's limit, so this is done anew for
/// every chunk.
fn move_chunk_up(a: &mut CodeAssembler, data: Data) -> Result<(), IcedError> {
    // There is no interrupt table for protected mode: an interrupt in it would reset the machine.
    a.cli()?;
    a.lgdt(ptr(data.gdt))?;
    a.mov(eax, cr0)?;
    a.or(al, 1)?;
    a.mov(cr0, eax)?;
    // CS is not loaded, so the code runs on in its 16-bit segment without a far jump.
    a.push(data::FLAT)?;
    a.pop(es)?;
    // 128 double words in a sector.
    a.shl(cx, 7)?;
    a.add_instruction(Instruction::with_rep_movsd(32)?)?;
    // Bit 0 is set, so decrementing clears it, and is shorter than a logical and.
    a.dec(ax)?;
    a.mov(cr0, eax)?;
    a.sti()
}

/// Jumps to the table's entry point, with interrupts off and all data segments equal: boot.rst, "Running the Kernel".
fn jump_to_kernel(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.cli()?;
    a.lss(sp, ptr(TABLE + STACK_OFFSET as u64))?;
    a.add_instruction(Instruction::with1(
        Code::Push_rm32,
        MemoryOperand::with_displ(TABLE + START_OFFSET as u64, 2),
    )?)?;
    a.mov(ax, ss)?;
    for segment in [ds, es, fs, gs] {
        a.mov(segment, ax)?;
    }
    a.retf()
}

/// Reports a slot that cannot be loaded for the reason AL, and boots the other one: the confirmed slot after a trial, and
/// the fallback after the confirmed slot. After both, the machine is reset, so that an unattended device tries again.
fn fall_back_or_reset(a: &mut CodeAssembler, r: &mut Routines, data: Data) -> Result<(), IcedError> {
    a.set_label(&mut r.fail)?;
    a.call(r.report)?;
    a.mov(al, byte_ptr(CURRENT))?;
    a.xor(al, 1)?;
    a.dec(byte_ptr(data.slots_left))?;
    a.jnz(r.boot_slot)?;
    a.set_label(&mut r.wait)?;
    a.mov(cx, WAIT_BEFORE_RESET)?;
    a.mov(ah, 0x86)?;
    a.int(0x15)?;
    // The keyboard controller's reset line, and the firmware's entry for machines without one.
    a.mov(al, 0xfe)?;
    a.out(0x64, al)?;
    a.add_instruction(Instruction::with_far_branch(Code::Jmp_ptr1616, 0xffff, 0)?)
}

/// Prints [`MESSAGE`] and the letter in AL, by running on into [`put_character_routine`].
fn report_routine(a: &mut CodeAssembler, r: &mut Routines, data: Data) -> Result<(), IcedError> {
    let mut character = a.create_label();
    a.set_label(&mut r.report)?;
    a.push(ax)?;
    a.mov(si, data.message as i32)?;
    a.mov(cx, MESSAGE.len() as i32)?;
    a.set_label(&mut character)?;
    a.lodsb()?;
    a.call(r.put_character)?;
    a.loop_(character)?;
    a.pop(ax)
}

/// Prints AL on the screen and on COM1. Keeps all registers.
fn put_character_routine(a: &mut CodeAssembler, r: &mut Routines) -> Result<(), IcedError> {
    a.set_label(&mut r.put_character)?;
    a.pusha()?;
    a.mov(ah, 0x0e)?;
    a.mov(bx, 7)?;
    // INT 10h does not promise to keep AX.
    a.push(ax)?;
    a.int(0x10)?;
    a.pop(ax)?;
    a.mov(ah, 1)?;
    a.xor(dx, dx)?;
    a.int(0x14)?;
    a.popa()?;
    a.ret()
}

/// Calls INT 13h function AX for CX sectors from EBX at 0000:SI. Carry if it failed five times. Keeps all registers. The
/// packet is built anew for each try: the firmware changes it.
fn disk_routine(a: &mut CodeAssembler, r: &mut Routines) -> Result<(), IcedError> {
    let mut again = a.create_label();
    let mut done = a.create_label();
    a.set_label(&mut r.disk)?;
    a.mov(byte_ptr(TRIES), MAX_TRIES)?;
    a.set_label(&mut again)?;
    a.pushad()?;
    a.mov(bp, sp)?;
    // Disk address packet, from its end: first sector (64 bits), segment and offset of the buffer, count, length.
    push_dword(a, 0)?;
    a.push(ebx)?;
    a.push(0)?;
    a.push(si)?;
    a.push(cx)?;
    a.push(16)?;
    a.mov(si, sp)?;
    a.mov(dl, byte_ptr(DRIVE))?;
    a.int(0x13)?;
    // Drops the packet without popping it. MOV keeps the carry flag of INT 13h.
    a.mov(sp, bp)?;
    a.jnc(done)?;
    // Function 0 resets the disk.
    a.mov(ah, 0)?;
    a.int(0x13)?;
    a.popad()?;
    a.dec(byte_ptr(TRIES))?;
    a.jnz(again)?;
    a.stc()?;
    a.ret()?;
    a.set_label(&mut done)?;
    a.popad()?;
    a.ret()
}

/// `push dword` of a byte; the assembler's own `push` takes words in 16-bit code.
fn push_dword(a: &mut CodeAssembler, value: i32) -> Result<(), IcedError> {
    a.add_instruction(Instruction::with1(Code::Pushd_imm8, value)?)
}
