; As alice.asm, but keeps the sum in memory and takes for granted that it begins as zero; and forgets the newline.
        .ORIG x3000
LOOP    GETC
        ADD R2, R0, #-10
        BRz DONE
        LD R2, MINUS_ZERO
        ADD R0, R0, R2
        LDI R1, SUM
        ADD R1, R1, R0
        STI R1, SUM
        BRnzp LOOP
DONE    LDI R1, SUM
        LD R2, ZERO
        ADD R0, R1, R2
        OUT
        HALT
ZERO    .FILL x30
MINUS_ZERO
        .FILL x-30
SUM     .FILL x4000
        .END
