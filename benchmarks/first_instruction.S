// A guest that shows its first instruction: it writes a line break to the serial
// port, which the VMM passes on at once, and sleeps. Two moves of a constant come
// before the write, as the port's number does not fit into the instruction.
//
// Entry state: vmm/boot/long_mode.h. Neither stack nor memory is used.

    .text
    .globl vmsg_start
vmsg_start:
    movw    $0x3F8, %dx
    movb    $'\n', %al
    outb    %al, %dx
    cli
1:  hlt
    jmp     1b

    .section .note.GNU-stack, "", @progbits
