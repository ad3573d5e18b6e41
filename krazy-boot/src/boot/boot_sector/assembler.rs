//! The source of the boot sector. 16-bit real mode, loaded and started at 0000:7C00 with the drive in DL.

use iced_x86::code_asm::*;
use iced_x86::{Code, IcedError, Instruction, MemoryOperand};

use super::CHUNK_SECTORS;
use crate::boot::load_table::{
    self, COUNT_OFFSET, ENTRIES_OFFSET, STACK_OFFSET, START_OFFSET, TABLE_SECTORS,
};
use crate::boot::slot_area::{AREA_SECTORS, FIRST_AREA, SECOND_AREA};
use crate::disk::selector::{self, CONFIRMED_OFFSET, TRIAL_OFFSET};

const ORIGIN: u64 = 0x7c00;
const TABLE: u64 = 0x600;
const SELECTOR: u64 = 0xe00;
const BUFFER: i32 = 0x8000;

const CONFIRMED: u64 = SELECTOR + CONFIRMED_OFFSET as u64;
const TRIAL: u64 = SELECTOR + TRIAL_OFFSET as u64;
/// The slot being loaded. Overwrites the candidate, in memory and after the selector was written.
const CURRENT: u64 = TRIAL + 1;
/// Tries left for a read; between the selector and the stack.
const TRIES: u64 = 0x1000;
/// The first word pushed.
const DRIVE: u64 = ORIGIN - 2;

const EXTENDED_READ: i32 = 0x4200;
const EXTENDED_WRITE: i32 = 0x4300;
/// INT 15h function 86h waits for CX × 65536 µs: 5 s.
const WAIT_BEFORE_RESET: i32 = 5_000_000 >> 16;
/// Selector of the flat data segment in the GDT.
const FLAT: i32 = 8;
const MESSAGE: &[u8] = b"krazy: ";

/// Addresses of data behind the code.
#[derive(Clone, Copy, Default)]
struct Data {
    gdt: u64,
    message: u64,
}

/// The code and data of the boot sector.
pub(super) fn assemble() -> Result<Vec<u8>, IcedError> {
    // Labels cannot stand in 16-bit memory operands: the first pass finds the addresses for the second. Both
    // use values that need 16 bits, so that the lengths agree.
    let (_, data) = pass(Data { gdt: ORIGIN, message: ORIGIN })?;
    Ok(pass(data)?.0)
}

fn pass(data: Data) -> Result<(Vec<u8>, Data), IcedError> {
    let mut a = CodeAssembler::new(16)?;
    let mut disk = a.create_label();
    let mut put_character = a.create_label();
    let mut report = a.create_label();
    let mut boot_slot = a.create_label();
    let mut fail = a.create_label();
    let mut wait = a.create_label();

    // Segments, stack. CS may be anything that means 7C00: all jumps are relative.
    a.cli()?;
    a.xor(ax, ax)?;
    a.mov(ss, ax)?;
    a.mov(sp, ORIGIN as i32)?;
    a.mov(ds, ax)?;
    a.sti()?;
    a.cld()?;
    a.push(dx)?;

    // A20: the firmware's way; the chipset's if the firmware has none.
    let mut a20_open = a.create_label();
    a.mov(ax, 0x2401)?;
    a.int(0x15)?;
    a.jnc(a20_open)?;
    a.in_(al, 0x92)?;
    a.or(al, 2)?;
    // Bit 0 would reset the machine.
    a.and(al, 0xfe)?;
    a.out(0x92, al)?;
    a.set_label(&mut a20_open)?;

    // INT 13h extensions.
    let mut no_extensions = a.create_label();
    let mut extensions = a.create_label();
    a.mov(dl, byte_ptr(DRIVE))?;
    a.mov(bx, 0x55aa)?;
    a.mov(ah, 0x41)?;
    a.int(0x13)?;
    a.jc(no_extensions)?;
    a.cmp(bx, 0xaa55)?;
    a.jne(no_extensions)?;
    // Bit 0: functions 42h and 43h.
    a.shr(cx, 1)?;
    a.jc(extensions)?;
    a.set_label(&mut no_extensions)?;
    a.mov(al, i32::from(b'E'))?;
    a.call(report)?;
    a.jmp(wait)?;
    a.set_label(&mut extensions)?;

    // The selector: LBA 1, 2, or made up.
    let mut next_copy = a.create_label();
    let mut no_copy = a.create_label();
    let mut selected = a.create_label();
    let mut untried = a.create_label();
    a.mov(si, SELECTOR as i32)?;
    a.mov(cx, 1)?;
    a.xor(ebx, ebx)?;
    a.set_label(&mut next_copy)?;
    a.inc(bx)?;
    a.cmp(bx, selector::SPARE.0 as i32 + 1)?;
    a.je(no_copy)?;
    a.mov(ax, EXTENDED_READ)?;
    a.call(disk)?;
    a.jc(next_copy)?;
    a.cmp(dword_ptr(si), u32::from_le_bytes(selector::MAGIC))?;
    a.jne(next_copy)?;
    a.cmp(byte_ptr(si + CONFIRMED_OFFSET as i32), 1)?;
    a.ja(next_copy)?;
    a.jmp(selected)?;
    a.set_label(&mut no_copy)?;
    // Slot A is confirmed, no trial.
    a.mov(word_ptr(si + CONFIRMED_OFFSET as i32), 0xff00)?;
    a.set_label(&mut selected)?;

    // A trial boots only after the disk has proved to have forgotten it.
    a.mov(al, byte_ptr(si + TRIAL_OFFSET as i32))?;
    a.cmp(al, 1)?;
    a.ja(untried)?;
    let mut trial_end = a.create_label();
    a.push(ax)?;
    a.mov(byte_ptr(si + TRIAL_OFFSET as i32), 0xff)?;
    a.mov(ax, EXTENDED_WRITE)?;
    a.call(disk)?;
    a.jc(trial_end)?;
    a.mov(ah, EXTENDED_READ >> 8)?;
    a.call(disk)?;
    a.jc(trial_end)?;
    // Anything but 0xff is below it and sets the carry flag, like an error.
    a.cmp(byte_ptr(si + TRIAL_OFFSET as i32), 0xff)?;
    a.set_label(&mut trial_end)?;
    a.pop(ax)?;
    a.jnc(boot_slot)?;
    a.set_label(&mut untried)?;
    a.mov(al, byte_ptr(CONFIRMED))?;

    // Slot AL: its letter, its table.
    a.set_label(&mut boot_slot)?;
    a.mov(byte_ptr(CURRENT), al)?;
    a.movzx(ebx, al)?;
    a.add(al, i32::from(b'A'))?;
    a.call(put_character)?;
    a.imul_3(bx, bx, SECOND_AREA.0 as i32 - FIRST_AREA.0 as i32)?;
    const { assert!(AREA_SECTORS.0 == SECOND_AREA.0 - FIRST_AREA.0) };
    a.add(bx, FIRST_AREA.0 as i32)?;
    a.mov(si, TABLE as i32)?;
    a.mov(cx, TABLE_SECTORS.0 as i32)?;
    a.mov(ax, EXTENDED_READ | i32::from(b'R'))?;
    a.call(disk)?;
    a.jc(fail)?;
    a.mov(al, i32::from(b'T'))?;
    a.cmp(dword_ptr(si), u32::from_le_bytes(load_table::MAGIC))?;
    a.jne(fail)?;

    // Entries: EDI destination, EBX first sector, EBP sectors left.
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
    push_dword(&mut a, CHUNK_SECTORS)?;
    a.pop(ecx)?;
    a.cmp(ebp, ecx)?;
    a.jae(whole_chunk)?;
    a.mov(cx, bp)?;
    a.set_label(&mut whole_chunk)?;
    a.push(si)?;
    a.mov(esi, BUFFER)?;
    a.mov(ax, EXTENDED_READ | i32::from(b'R'))?;
    a.call(disk)?;
    a.jc(fail)?;
    // ES becomes a segment of 4 GiB from address 0. The firmware may have changed the GDT and the segment's
    // limit, so this is done anew for every chunk.
    a.push(cx)?;
    a.cli()?;
    a.lgdt(ptr(data.gdt))?;
    a.mov(eax, cr0)?;
    a.or(al, 1)?;
    a.mov(cr0, eax)?;
    a.push(FLAT)?;
    a.pop(es)?;
    a.shl(cx, 7)?;
    a.add_instruction(Instruction::with_rep_movsd(32)?)?;
    a.dec(ax)?;
    a.mov(cr0, eax)?;
    a.sti()?;
    a.pop(cx)?;
    a.pop(si)?;
    a.add(ebx, ecx)?;
    a.sub(ebp, ecx)?;
    a.jnz(chunk)?;
    a.dec(word_ptr(TABLE + COUNT_OFFSET as u64))?;
    a.jnz(entry)?;

    // Jump, with interrupts off and all data segments equal.
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
    a.retf()?;

    // A slot cannot be loaded, AL says why. A trial gives way to the confirmed slot.
    a.set_label(&mut fail)?;
    a.call(report)?;
    a.mov(al, byte_ptr(CONFIRMED))?;
    a.cmp(byte_ptr(CURRENT), al)?;
    a.jne(boot_slot)?;
    a.set_label(&mut wait)?;
    a.mov(cx, WAIT_BEFORE_RESET)?;
    a.mov(ah, 0x86)?;
    a.int(0x15)?;
    // The keyboard controller's reset line, and the firmware's entry for machines without one.
    a.mov(al, 0xfe)?;
    a.out(0x64, al)?;
    a.add_instruction(Instruction::with_far_branch(Code::Jmp_ptr1616, 0xffff, 0)?)?;

    // Prints the message and the letter in AL.
    let mut character = a.create_label();
    a.set_label(&mut report)?;
    a.push(ax)?;
    a.mov(si, data.message as i32)?;
    a.mov(cx, MESSAGE.len() as i32)?;
    a.set_label(&mut character)?;
    a.lodsb()?;
    a.call(put_character)?;
    a.loop_(character)?;
    a.pop(ax)?;

    // Prints AL on the screen and on COM1. Keeps all registers.
    a.set_label(&mut put_character)?;
    a.pusha()?;
    a.mov(ah, 0x0e)?;
    a.mov(bx, 7)?;
    a.push(ax)?;
    a.int(0x10)?;
    a.pop(ax)?;
    a.mov(ah, 1)?;
    a.xor(dx, dx)?;
    a.int(0x14)?;
    a.popa()?;
    a.ret()?;

    // INT 13h function AX on CX sectors from EBX at 0000:SI. Carry if it failed five times. Keeps all
    // registers. The packet is built anew for each try: the firmware changes it.
    let mut again = a.create_label();
    let mut done = a.create_label();
    a.set_label(&mut disk)?;
    a.mov(byte_ptr(TRIES), 5)?;
    a.set_label(&mut again)?;
    a.pushad()?;
    a.mov(bp, sp)?;
    push_dword(&mut a, 0)?;
    a.push(ebx)?;
    a.push(0)?;
    a.push(si)?;
    a.push(cx)?;
    a.push(16)?;
    a.mov(si, sp)?;
    a.mov(dl, byte_ptr(DRIVE))?;
    a.int(0x13)?;
    a.mov(sp, bp)?;
    a.jnc(done)?;
    a.mov(ah, 0)?;
    a.int(0x13)?;
    a.popad()?;
    a.dec(byte_ptr(TRIES))?;
    a.jnz(again)?;
    a.stc()?;
    a.ret()?;
    a.set_label(&mut done)?;
    a.popad()?;
    a.ret()?;

    let mut code = a.assemble(ORIGIN)?;
    let end = ORIGIN + code.len() as u64;
    code.extend(gdt(end));
    let message = ORIGIN + code.len() as u64;
    code.extend(MESSAGE);
    Ok((code, Data { gdt: end, message }))
}

/// `push dword` of a byte; the assembler's own `push` takes words in 16-bit code.
fn push_dword(a: &mut CodeAssembler, value: i32) -> Result<(), IcedError> {
    a.add_instruction(Instruction::with1(Code::Pushd_imm8, value)?)
}

/// Two descriptors. The first is never used as one, so the GDT's own limit and address stand there.
fn gdt(address: u64) -> [u8; 16] {
    let [low, high, ..] = address.to_le_bytes();
    let flat_data = [0xff, 0xff, 0, 0, 0, 0x92, 0xcf, 0];
    let mut table = [0; 16];
    table[..8].copy_from_slice(&[15, 0, low, high, 0, 0, 0, 0]);
    table[8..].copy_from_slice(&flat_data);
    table
}
