; Reads digits up to the end of the line and prints their sum, at most 9.
        .ORIG x3000
        AND R1, R1, #0
LOOP    GETC
        ADD R2, R0, #-10
        BRz DONE
        LD R2, MINUS_ZERO
        ADD R0, R0, R2
        ADD R1, R1, R0
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
