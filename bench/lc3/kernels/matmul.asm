; The product of two 8 by 8 matrices of pseudo-random words, multiplying by shifts and adds.
; Benchmark kernel: runs ITERATIONS rounds (0 counts as 65,536), then halts with a checksum in R0 and RESULT.
; native_kernels.cpp does the same in C++.

        .ORIG x3000
ROUND   LD R1, SEED             ; fill both matrices: x = 5 x + 13
        LD R2, A_AT
        LD R3, BOTH_SIZES
FILL    ADD R4, R1, R1
        ADD R4, R4, R4
        ADD R1, R1, R4
        ADD R1, R1, #13
        STR R1, R2, #0
        ADD R2, R2, #1
        ADD R3, R3, #-1
        BRp FILL
        ST R1, SEED

        LD R2, A_AT
        ST R2, ROW
        AND R0, R0, #0
        ADD R0, R0, #8
        ST R0, ROWS_LEFT
NEXT_ROW
        LD R3, B_AT
        ST R3, COLUMN
        AND R0, R0, #0
        ADD R0, R0, #8
        ST R0, COLUMNS_LEFT
NEXT_COLUMN
        LD R2, ROW
        LD R3, COLUMN
        AND R4, R4, #0          ; R4 = the sum of the products
        ADD R5, R4, #8
TERM    LDR R0, R2, #0
        LDR R1, R3, #0
        AND R6, R6, #0          ; R6 = R0 * R1, from the top bit of R0 down
        LD R7, SIXTEEN
BIT     ADD R6, R6, R6
        ADD R0, R0, #0
        BRzp ZERO_BIT
        ADD R6, R6, R1
ZERO_BIT
        ADD R0, R0, R0
        ADD R7, R7, #-1
        BRp BIT
        ADD R4, R4, R6
        ADD R2, R2, #1
        ADD R3, R3, #8
        ADD R5, R5, #-1
        BRp TERM
        LD R0, RESULT
        ADD R0, R0, #0          ; checksum = rotated left by one + the sum
        BRn MIX_ODD
        ADD R0, R0, R0
        BRnzp MIX_ADD
MIX_ODD ADD R0, R0, R0
        ADD R0, R0, #1
MIX_ADD ADD R0, R0, R4
        ST R0, RESULT
        LD R3, COLUMN
        ADD R3, R3, #1
        ST R3, COLUMN
        LD R1, COLUMNS_LEFT
        ADD R1, R1, #-1
        ST R1, COLUMNS_LEFT
        BRp NEXT_COLUMN
        LD R2, ROW
        ADD R2, R2, #8
        ST R2, ROW
        LD R1, ROWS_LEFT
        ADD R1, R1, #-1
        ST R1, ROWS_LEFT
        BRp NEXT_ROW
        LD R1, ROUNDS_LEFT
        BRnp COUNT_DOWN
        LD R1, ITERATIONS       ; the first round is over
COUNT_DOWN
        ADD R1, R1, #-1
        ST R1, ROUNDS_LEFT
        BRnp ROUND
        HALT
ITERATIONS
        .FILL 500
RESULT  .FILL 0
ROUNDS_LEFT
        .FILL 0
SEED    .FILL x5678
BOTH_SIZES
        .FILL 128
SIXTEEN .FILL 16
ROW     .BLKW 1
COLUMN  .BLKW 1
ROWS_LEFT
        .BLKW 1
COLUMNS_LEFT
        .BLKW 1
A_AT    .FILL A
B_AT    .FILL B
A       .BLKW 64
B       .BLKW 64
        .END
