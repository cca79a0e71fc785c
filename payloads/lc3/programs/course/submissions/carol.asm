; Jumps back to where the sum is cleared, and never gets past the first digit that is not the end of the line.
        .ORIG x3000
        GETC
LOOP    AND R1, R1, #0
        ADD R2, R0, #-10
        BRz DONE
        LD R2, MINUS_ZERO
        ADD R1, R0, R2
        BRnzp LOOP
DONE    LD R2, ZERO
        ADD R0, R1, R2
        OUT
        LD R0, NEWLINE
        OUT
        HALT
ZERO    .FILL x30
MINUS_ZERO
        .FILL x-30
NEWLINE .FILL x0A
        .END
