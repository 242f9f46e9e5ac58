#include "benchmarks/doorbell_guest.h"

// RDI: GuestParameters. RBX: doorbell. RSI, RBP, R9, R10D: its FifoIndices. R8:
// local APIC. ECX: doorbells left. EDX: interrupts before this one.
//
// An emulated processor that is taken away between STI and HLT may have
// forgotten that STI holds interrupts off there. So the handler, which finds
// HLT to be the next instruction only then, skips it. Same code for all that is
// compared.
asm(R"(
    .pushsection .rodata
    .balign 16
vmsg_doorbell_guest_begin:
    movb    $0xFF, %al              # mask both PICs
    outb    %al, $0x21
    outb    %al, $0xA1
    lidt    (%rdi)
    movq    16(%rdi), %rbx
    movq    24(%rdi), %rsi
    movq    32(%rdi), %rbp
    movq    40(%rdi), %r9
    movl    48(%rdi), %r10d
    movl    $0xFEE00000, %r8d
    movl    $0x1FF, 0xF0(%r8)       # APIC on, spurious vector 255
.Lnext_round:
    movl    $0xF4, %edx             # kGuestPort
    inl     %dx, %eax
    movl    %eax, %ecx
.Lnext_doorbell:
    movl    56(%rdi), %edx
    movzwl  (%rsi), %eax            # one packet more
    incl    %eax
    cmpl    %r10d, %eax
    jb      .Lno_wrap
    xorl    %eax, %eax
.Lno_wrap:
    movw    %ax, (%rsi)
    movl    $1, (%rbx)
.Lwait:
    cli
    cmpl    56(%rdi), %edx
    jne     .Linterrupted
    sti                             # after HLT has begun, but see the handler
    hlt
    jmp     .Lwait
.Linterrupted:
    sti
    movzwl  (%rbp), %eax            # all packets taken
    movw    %ax, (%r9)
    decl    %ecx
    jnz     .Lnext_doorbell
    jmp     .Lnext_round
vmsg_doorbell_guest_handler:
    pushq   %rax                    # HLT that has not begun would sleep over this
    movq    8(%rsp), %rax
    cmpb    $0xF4, (%rax)
    jne     .Lnot_before_halt
    incq    8(%rsp)
.Lnot_before_halt:
    popq    %rax
    incl    56(%rdi)
    movl    $0, 0xB0(%r8)           # end of interrupt
    iretq
vmsg_doorbell_guest_end:
    .popsection
)");

extern "C" {
extern const std::byte vmsg_doorbell_guest_begin[];
extern const std::byte vmsg_doorbell_guest_handler[];
extern const std::byte vmsg_doorbell_guest_end[];
}

namespace vmsg::bench {

std::span<const std::byte> DoorbellGuestCode() {
  return {vmsg_doorbell_guest_begin, vmsg_doorbell_guest_end};
}

size_t DoorbellGuestHandlerOffset() {
  return static_cast<size_t>(vmsg_doorbell_guest_handler -
                             vmsg_doorbell_guest_begin);
}

}  // namespace vmsg::bench
