; Branches that no predictor knows: decisions by the top bits of a pseudo-random number.
; Benchmark kernel: runs ITERATIONS rounds (0 counts as 65,536), then halts with a checksum in R0 and RESULT.
; native_kernels.cpp does the same in C++.

        .ORIG x3000
        LD R5, ITERATIONS
        LD R1, SEED
        AND R2, R2, #0
        AND R0, R0, #0
ROUND   LD R3, LENGTH
STEP    ADD R4, R1, R1          ; x = 5 x + 13
        ADD R4, R4, R4
        ADD R1, R1, R4
        ADD R1, R1, #13
        BRn BIT_15
        ADD R4, R1, R1
        BRn BIT_14
        ADD R4, R4, R4
        BRn BIT_13
        ADD R2, R2, #0
        BRp POSITIVE
        ADD R2, R2, #11
        BRnzp NEXT
POSITIVE
        ADD R2, R2, #-7
        BRnzp NEXT
BIT_15  ADD R2, R2, #3
        BRnzp NEXT
BIT_14  ADD R2, R2, R1
        BRnzp NEXT
BIT_13  NOT R2, R2
NEXT    ADD R3, R3, #-1
        BRp STEP
        ADD R0, R0, #0          ; checksum = rotated left by one + y
        BRn MIX_ODD
        ADD R0, R0, R0
        BRnzp MIX_ADD
MIX_ODD ADD R0, R0, R0
        ADD R0, R0, #1
MIX_ADD ADD R0, R0, R2
        ADD R5, R5, #-1
        BRnp ROUND
        ST R0, RESULT
        HALT
ITERATIONS
        .FILL 10000
RESULT  .FILL 0
SEED    .FILL x2345
LENGTH  .FILL 1000
        .END
