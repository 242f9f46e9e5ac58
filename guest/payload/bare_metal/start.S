// Where the payload starts, and where its interrupts come in.
//
// Entry state: vmm/boot/long_mode.h. The GDT and the page tables of the VMM are
// kept; the stack is our own.

    .section .text.start, "ax"
    .globl vmsg_start
vmsg_start:
    cli
    cld
    leaq    vmsg_stack_top(%rip), %rsp
    xorl    %ebp, %ebp
    call    vmsg_main            // RDI: BootInfo, or 0. Does not return.
1:  hlt
    jmp     1b

// One stub per vector, 16 bytes each: the vector number and, where the processor
// pushes none, an error code of 0. Source: Intel SDM volume 3, 6.15.
    .text
    .balign 16
    .globl  vmsg_interrupt_stubs
vmsg_interrupt_stubs:
    .set    vector, 0
    .rept   256
    .balign 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || \
          vector == 21 || vector == 29 || vector == 30)
    pushq   $0
    .endif
    pushq   $vector
    jmp     interrupt_common
    .set    vector, vector + 1
    .endr

// On the stack: vector, error code, RIP, CS, RFLAGS, RSP, SS. The processor has
// aligned the stack to 16 before these seven words; the nine registers bring it
// back to that.
interrupt_common:
    pushq   %rax
    pushq   %rcx
    pushq   %rdx
    pushq   %rsi
    pushq   %rdi
    pushq   %r8
    pushq   %r9
    pushq   %r10
    pushq   %r11
    leaq    72(%rsp), %rdi
    cld
    call    vmsg_interrupt
    popq    %r11
    popq    %r10
    popq    %r9
    popq    %r8
    popq    %rdi
    popq    %rsi
    popq    %rdx
    popq    %rcx
    popq    %rax
    addq    $16, %rsp
    iretq

// void vmsg_halt(): interrupts on, and HLT until one comes.
//
// One that comes after STI and before HLT is slept over: nobody sends it again.
// STI holds interrupts off for one more instruction, which is meant for HLT, but
// an emulated processor that is taken away there may have forgotten that when it
// comes back. So this does not build on it: an interrupt between the labels ends
// the HLT that has not begun (vmsg_interrupt goes back to vmsg_halt_end). NOP
// uses up what STI holds off, so that every machine goes this way and not only
// some, now and then.
    .globl  vmsg_halt, vmsg_halt_begin, vmsg_halt_end
vmsg_halt:
    sti
vmsg_halt_begin:
    nop
    hlt
vmsg_halt_end:
    ret

    .bss
    .balign 16
    .skip   65536
vmsg_stack_top:

    .section .note.GNU-stack, "", @progbits
