; Shows what is typed, upside down in case, until a full stop.
        .ORIG x3000
NEXT    GETC
        LD R1, MINUS_STOP
        ADD R2, R0, R1
        BRz DONE
        LD R1, MINUS_UPPER_A
        ADD R2, R0, R1          ; at least 'A'?
        BRn SHOW
        LD R1, MINUS_UPPER_Z
        ADD R2, R0, R1          ; at most 'Z'?
        BRnz LOWER
        LD R1, MINUS_LOWER_A
        ADD R2, R0, R1
        BRn SHOW
        LD R1, MINUS_LOWER_Z
        ADD R2, R0, R1
        BRp SHOW
        LD R1, MINUS_CASE
        ADD R0, R0, R1
        BRnzp SHOW
LOWER   LD R1, CASE
        ADD R0, R0, R1
SHOW    OUT
        BRnzp NEXT
DONE    HALT
MINUS_STOP
        .FILL #-46
MINUS_UPPER_A
        .FILL #-65
MINUS_UPPER_Z
        .FILL #-90
MINUS_LOWER_A
        .FILL #-97
MINUS_LOWER_Z
        .FILL #-122
CASE    .FILL #32
MINUS_CASE
        .FILL #-32
        .END
