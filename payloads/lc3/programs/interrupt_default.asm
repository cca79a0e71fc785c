; Interrupts without a handler of one's own: the OS switches them off and keeps the character.
        .ORIG x3000
        LD R0, ENABLE
        STI R0, KBSR
        NOP
        LDI R0, KBSR
        LD R1, ENABLE
        AND R0, R0, R1
        BRnp STILL_ON
        GETC
        OUT
        LEA R0, TEXT
        PUTS
STILL_ON
        HALT
KBSR    .FILL xFE00
ENABLE  .FILL x4000
TEXT    .STRINGZ " is still there\n"
        .END
